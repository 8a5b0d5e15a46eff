# Every recipe is a script that also runs by itself. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test test-nginx test-vip test-cluster test-scale test-long check images deploy undeploy bench engine-up engine-down

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' Makefile

demo: ## the whole story on a throwaway Swarm, from nothing to a table of what was checked (FAULTS=21: of faults)
	@scripts/demo

test: ## every test, end-to-end on a real engine included
	@scripts/test

test-nginx: ## the rendered files in each nginx that we render for (Debian only; fetches three, installs none)
	@scripts/test-nginx

test-vip: ## VIP traffic, in an emulated machine whose kernel has IPVS (WORDS="..." selects scenarios)
	@scripts/test-vip $(WORDS)

test-cluster: ## three managers: lost nodes, a broken Engine API, failing proxies, a schedule of faults (WORDS="...")
	@scripts/test-cluster $(WORDS)

test-scale: ## ten thousand services on a real engine, with the release program (about ten minutes)
	@scripts/test-scale

test-long: ## the scenarios on newer Engines, 26.1 and 28.5 (Debian only; an hour each; RELEASES="trixie sid" WORDS="...")
	@scripts/test-long $(WORDS)

check: ## format, lints, dependencies, documentation
	@scripts/check

images: ## build the operator's image, and push it where REGISTRY is set
	@scripts/images

deploy: ## put the operator on the cluster that DOCKER_HOST or the docker context names
	@scripts/deploy

undeploy: ## remove everything that deploy and the operator created there
	@scripts/undeploy

bench: ## measure
	@scripts/bench

engine-up: ## a throwaway real Swarm (NODES=1|3): eval "$(make -s engine-up)"
	@scripts/engine up

engine-down: ## and remove every trace of it
	@scripts/engine down

//! Whom to decide about anew when a network or a secret changes.

use std::collections::{BTreeMap, BTreeSet};

use model::values::SecretName;
use model::{NetworkId, Service, ServiceId};

/// What a decision about a service looks up beside the service itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Looked {
    At(NetworkId),
    For(SecretName),
}

/// The services that look something up, by what that is.
#[derive(Debug, Default)]
pub(crate) struct Dependents(BTreeMap<Looked, BTreeSet<ServiceId>>);

impl Dependents {
    pub fn of(&self, looked: &Looked) -> impl Iterator<Item = &ServiceId> {
        self.0.get(looked).into_iter().flatten()
    }

    pub fn add(&mut self, service: &Service) {
        for looked in looked_up(service) {
            self.0.entry(looked).or_default().insert(service.id.clone());
        }
    }

    pub fn remove(&mut self, service: &Service) {
        for looked in looked_up(service) {
            if let Some(services) = self.0.get_mut(&looked) {
                services.remove(&service.id);
                if services.is_empty() {
                    self.0.remove(&looked);
                }
            }
        }
    }
}

/// The networks that a service is on, and the secrets that its labels name, also by their names within its stack.
fn looked_up(service: &Service) -> BTreeSet<Looked> {
    let named = service.asked.iter().flat_map(|request| request.options.secrets());
    let in_stack = |name: &SecretName| service.stack.as_ref().and_then(|stack| name.in_stack(stack));
    let secrets = named.flat_map(|name| [Some(name.clone()), in_stack(name)]).flatten().map(Looked::For);
    service.networks.iter().cloned().map(Looked::At).chain(secrets).collect()
}

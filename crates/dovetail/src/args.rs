//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Layer-7 routing for Docker Swarm: label a service with com.docker.lb.hosts, and an nginx proxy serves it.
#[derive(Debug, Parser)]
#[command(name = "dovetail", version, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator: watch the cluster and keep its proxies in step
    Run(Run),
    /// Check a configuration file and say what it means
    CheckConfig(CheckConfig),
    /// Turn an Interlock configuration (TOML) into one of Dovetail's (YAML), and say what it leaves out
    ImportConfig(ImportConfig),
    /// Check the labels of stack files, without a cluster
    Lint(Lint),
    /// Show what the operator would change now; writes nothing
    Plan(Look),
    /// Print the proxies' files as they should be now; writes nothing
    Render(Render),
    /// List the routes: what is served, and what is about to be
    Routes(Look),
    /// Say why a service is routed or not, label by label
    Explain(Explain),
    /// Show how the proxies and their rollouts are doing
    Status(Look),
    /// Freeze proxies: the operator writes nothing until resume, and goes on computing
    Pause(Pause),
    /// End a pause
    Resume(Resume),
    /// Try again what failed and is held
    Retry(Retry),
    /// Tell the whole story on a Swarm in memory, with a real nginx if there is one
    #[cfg(feature = "demo")]
    Demo(Demo),
    /// Print the version
    Version(Version),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgument {
    /// The configuration file
    #[arg(long, env = "DOVETAIL_CONFIG", default_value = "/etc/dovetail/dovetail.yaml", value_name = "FILE")]
    pub config: PathBuf,
    /// The Docker Engine, instead of engine.endpoint and engine.tls in the file: unix:///path, tcp://host:port
    /// or https://host:port. DOCKER_TLS_VERIFY and DOCKER_CERT_PATH count as they do for the docker client
    #[arg(long, value_name = "ENDPOINT")]
    pub engine: Option<String>,
}

/// `dovetail run`
#[derive(Debug, Args)]
pub struct Run {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// How log lines look, instead of log.format in the file
    #[arg(long, value_parser = ["json", "text"], value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// How much is logged, instead of log.level in the file
    #[arg(long, value_parser = ["error", "warn", "info", "debug", "trace"], value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// `dovetail check-config`
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// The configuration file
    #[arg(default_value = "/etc/dovetail/dovetail.yaml")]
    pub file: PathBuf,
    /// Print the JSON Schema of the configuration instead
    #[arg(long)]
    pub schema: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// `dovetail import-config`
#[derive(Debug, Args)]
pub struct ImportConfig {
    /// Interlock's configuration: the first config of the service ucp-interlock, such as
    /// com.docker.ucp.interlock.conf-1
    #[arg(value_name = "TOML")]
    pub file: PathBuf,
    /// Write the YAML into this file instead of printing it
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print one JSON object, for programs: the YAML and what there is to say about it
    #[arg(long)]
    pub json: bool,
}

/// `dovetail lint`
#[derive(Debug, Args)]
pub struct Lint {
    /// The stack files, each on its own; - is standard input, such as what docker stack config makes of several
    #[arg(required = true, value_name = "STACKFILE")]
    pub files: Vec<PathBuf>,
    /// The stack's name, which docker puts in front of its networks and secrets
    #[arg(long, value_name = "NAME")]
    pub stack: Option<String>,
    /// Variables for the files, NAME=value a line; those of the environment win
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// The operator's configuration: judge service clusters and fixed networks by it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Fail on warnings too
    #[arg(long)]
    pub strict: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// A look at the cluster.
#[derive(Debug, Args)]
pub struct Look {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// `dovetail render`
#[derive(Debug, Args)]
pub struct Render {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// Only this cluster's files
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Print one JSON object, for programs
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
    /// Write the files below this directory instead of printing them
    #[arg(long, value_name = "DIRECTORY")]
    pub output: Option<PathBuf>,
}

/// `dovetail explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// The service, by name or id
    pub service: String,
    /// How to look.
    #[command(flatten)]
    pub look: Look,
}

/// `dovetail pause`
#[derive(Debug, Args)]
pub struct Pause {
    /// The clusters of proxies; all if none is named
    #[arg(value_name = "CLUSTER")]
    pub clusters: Vec<String>,
    /// Why, for whoever finds it paused
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgument,
}

/// `dovetail resume`
#[derive(Debug, Args)]
pub struct Resume {
    /// The clusters of proxies; all if none is named
    #[arg(value_name = "CLUSTER")]
    pub clusters: Vec<String>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgument,
}

/// `dovetail retry`
#[derive(Debug, Args)]
pub struct Retry {
    /// The cluster of proxies
    pub cluster: String,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgument,
}

/// `dovetail demo`
#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub struct Demo {
    /// The nginx that takes part, instead of the one on the PATH
    #[arg(long, value_name = "PROGRAM")]
    pub nginx: Option<PathBuf>,
    /// No nginx takes part, although there is one
    #[arg(long, conflicts_with = "nginx")]
    pub without_nginx: bool,
    /// Not the story, but so many faults one after the other, under a steady load of requests
    #[arg(long, value_name = "NUMBER", conflicts_with = "without_nginx")]
    pub faults: Option<u32>,
    /// The order of the faults follows from it; by default each time another
    #[arg(long, value_name = "NUMBER", requires = "faults")]
    pub seed: Option<u64>,
}

/// `dovetail version`
#[derive(Debug, Args)]
pub struct Version {
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

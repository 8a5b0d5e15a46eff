//! `dovetail`: reads its arguments, and does what they say. Exit status: 0 fine, 1 failed, 2 bad usage or
//! unreadable input.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use dovetail::args::{self, Arguments, Command, ConfigArgument};
use dovetail::config::{self, Config, ConfigError, UnknownCluster};
use dovetail::{commands, import, lint, logs, orders, running, wire};
use engine::Engine;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        // The work is small and comes in bursts; two threads keep the admin server answering meanwhile.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.into()))
        .and_then(|runtime| runtime.block_on(run(arguments.command)));
    match outcome {
        Ok(text) => print(&text),
        Err(Failure::Failed(error)) => complain(&format!("{error:#}"), 1),
        Err(Failure::BadInput(error)) => complain(&error, 2),
        Err(Failure::Found(answer, status)) => {
            print(&answer);
            ExitCode::from(status)
        }
        Err(Failure::Logged) => ExitCode::FAILURE,
    }
}

/// Why the program ends without having done what it was asked.
enum Failure {
    Failed(anyhow::Error),
    BadInput(String),
    /// What was asked for was whether the input is fine: the answer goes to standard output, and this is the status.
    Found(String, u8),
    /// The log has it.
    Logged,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        if error.is::<UnknownCluster>() { Failure::BadInput(error.to_string()) } else { Failure::Failed(error) }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::BadInput(error.to_string())
    }
}

async fn run(command: Command) -> Result<String, Failure> {
    match command {
        Command::Run(run) => {
            let (mut config, engine) = prepare_with(&run.config, |_| true)?;
            if let Some(format) = &run.log_format {
                config.log.format = config::read_word(format).map_err(Failure::BadInput)?;
            }
            if let Some(level) = &run.log_level {
                config.log.level = config::read_word(level).map_err(Failure::BadInput)?;
            }
            logs::start(&config.log);
            let traffic = engine.clone();
            let ended = wire::run(&config, engine, Box::new(move || traffic.traffic()), told_to_stop()).await;
            ended.map(|()| String::new()).map_err(|error| {
                tracing::error!("{error:#}");
                Failure::Logged
            })
        }
        Command::CheckConfig(check) if check.schema => Ok(config::schema()),
        Command::CheckConfig(check) if check.json => match config::load(&check.file, Path::exists) {
            Ok(_) => Ok(format!("{}\n", serde_json::json!({ "file": check.file, "fine": true }))),
            Err(error) => Err(found(error)),
        },
        Command::CheckConfig(check) => {
            let config = config::load(&check.file, Path::exists)?;
            Ok(commands::describe(&config, &check.file))
        }
        Command::ImportConfig(import) => {
            let imported = import::import_file(&import.file)
                .map_err(|error| if import.json { found(error) } else { error.into() })?;
            if let Some(output) = &import.output {
                std::fs::write(output, &imported.configuration)
                    .with_context(|| format!("cannot write {}", output.display()))?;
            }
            if import.json {
                return Ok(commands::pretty(&imported)?);
            }
            say(&imported.report());
            Ok(if import.output.is_some() { String::new() } else { imported.configuration })
        }
        Command::Lint(arguments) => {
            let settings = lint_settings(&arguments)?;
            let mut checked = Vec::new();
            for file in &arguments.files {
                checked.push(match lint::read_text(file) {
                    Ok(text) => lint::check(&file.display().to_string(), &text, &settings).await,
                    Err(error) => Err(error),
                });
            }
            let answer = lint::Answer::new(&checked, arguments.strict, arguments.json).map_err(anyhow::Error::from)?;
            say(&answer.errors);
            if answer.status == 0 { Ok(answer.output) } else { Err(Failure::Found(answer.output, answer.status)) }
        }
        Command::Plan(look) => {
            let (config, engine) = prepare(&look.config)?;
            Ok(commands::plan(&config, &engine, look.json).await?)
        }
        Command::Render(render) => {
            let (config, engine) = prepare(&render.config)?;
            let form = match &render.output {
                Some(directory) => commands::Form::Below(directory),
                None if render.json => commands::Form::Json,
                None => commands::Form::Text,
            };
            Ok(commands::render(&config, &engine, render.cluster.as_deref(), form).await?)
        }
        Command::Routes(look) => {
            let (config, engine) = prepare(&look.config)?;
            Ok(commands::list_routes(&config, &engine, look.json).await?)
        }
        Command::Explain(explain) => {
            let (config, engine) = prepare(&explain.look.config)?;
            Ok(commands::explain_service(&config, &engine, &explain.service, explain.look.json).await?)
        }
        Command::Status(look) => {
            let (config, engine) = prepare(&look.config)?;
            let running = running::ask(&config).await;
            Ok(commands::status(&config, &engine, &running, look.json).await?)
        }
        Command::Pause(pause) => {
            let (config, engine) = prepare(&pause.config)?;
            told(&orders::pause(&config, &engine, &pause.clusters, pause.reason.as_deref()).await?, pause.json)
        }
        Command::Resume(resume) => {
            let (config, engine) = prepare(&resume.config)?;
            told(&orders::resume(&config, &engine, &resume.clusters).await?, resume.json)
        }
        Command::Retry(retry) => {
            let (config, engine) = prepare(&retry.config)?;
            told(&orders::retry(&config, &engine, &retry.cluster).await?, retry.json)
        }
        #[cfg(feature = "demo")]
        Command::Demo(demo) => {
            dovetail::demo::run(&demo, told_to_stop()).await?;
            Ok(String::new())
        }
        Command::Version(version) if version.json => {
            Ok(format!("{}\n", serde_json::json!({ "version": env!("CARGO_PKG_VERSION") })))
        }
        Command::Version(_) => Ok(concat!("dovetail ", env!("CARGO_PKG_VERSION"), "\n").to_owned()),
    }
}

/// What became of an order, for people or for programs.
fn told(done: &orders::Done, as_json: bool) -> Result<String, Failure> {
    if as_json { Ok(commands::pretty(done)?) } else { Ok(done.to_string()) }
}

/// What stack files are judged with.
fn lint_settings(arguments: &args::Lint) -> Result<lint::Settings, Failure> {
    // A variable that is no UTF-8 cannot be meant by a file that is.
    let set =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut variables = lint::Variables(set.collect());
    for file in &arguments.env_file {
        let text = lint::read_text(file)?;
        variables
            .add_file(&text)
            .map_err(|(line, message)| Failure::BadInput(format!("{}:{line}: {message}", file.display())))?;
    }
    let config = arguments.config.as_ref().map(|file| config::load(file, |_| false)).transpose()?;
    Ok(lint::Settings { stack: arguments.stack.clone(), variables, config })
}

/// What is wrong with a file, for programs that asked for it.
fn found(error: ConfigError) -> Failure {
    let ConfigError { file, line, message } = error;
    let found = serde_json::json!({ "file": file, "fine": false, "line": line, "message": message });
    Failure::Found(format!("{found}\n"), 2)
}

/// Reads the configuration and prepares the client, to look, or to write what no registry needs to be asked about. Where the
/// credentials are, they are used.
fn prepare(argument: &ConfigArgument) -> Result<(Config, Engine), Failure> {
    prepare_with(argument, Path::exists)
}

/// The same with those files of credentials that are `wanted`; nothing is connected yet.
fn prepare_with(argument: &ConfigArgument, wanted: impl Fn(&Path) -> bool) -> Result<(Config, Engine), Failure> {
    let config = config::load(&argument.config, wanted).map_err(|error| {
        let hint = if argument.config.exists() { "" } else { "; name the file with --config or DOVETAIL_CONFIG" };
        Failure::BadInput(format!("{error}{hint}"))
    })?;
    let endpoint = config::engine_endpoint(&config, argument.engine.as_deref())
        .map_err(|error| Failure::BadInput(error.to_string()))?;
    let settings = engine::Settings { timeout: config.engine.timeout.0, ..engine::Settings::default() };
    let engine = Engine::connect(&endpoint, settings)
        .map_err(|error| Failure::BadInput(format!("{:#}", anyhow::Error::from(error))))?;
    Ok((config, engine))
}

/// Resolves on SIGTERM or SIGINT. From this call on neither ends the process by itself, awaited or not.
fn told_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be heard");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be heard");
    async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Prints to standard output; a reader that has gone away is no failure.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write to standard output: {error}"), 1)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Says what went wrong; a reader that has gone away changes nothing about it.
fn complain(what: &str, status: u8) -> ExitCode {
    say(&format!("dovetail: {what}\n"));
    ExitCode::from(status)
}

/// Prints to standard error, for people.
fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

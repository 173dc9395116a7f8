//! The binary `flumen`.
#![forbid(unsafe_code)]

use std::backtrace::Backtrace;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flumen_ring::process::{self, StopSignals};
use flumen_server::broker;
use flumen_server::config::{BrokerConfig, keys, reference};
use flumen_server::log_output;

const AFTER_HELP: &str = "The log goes to standard error. RUST_LOG says what is in it: error, warn, info (the default), \
                          debug or trace, for all of it or for a part, as in RUST_LOG=info,flumen_engine=debug.";

/// Apache Kafka's broker on io_uring.
#[derive(Parser)]
#[command(name = "flumen", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration, in the format of Kafka's server.properties.
    #[arg(value_name = "server.properties")]
    file: Option<PathBuf>,
    /// A setting that wins over file and environment; may be given several times.
    #[arg(long = "override", value_name = "key=value", value_parser = setting)]
    overrides: Vec<(String, String)>,
}

#[derive(Subcommand)]
enum Command {
    /// Prints every setting: meaning, unit, range, default.
    Config,
    /// Folds the journals of a broker that was killed into Kafka's own files, and ends.
    Recover {
        /// The configuration, in the format of Kafka's server.properties.
        #[arg(value_name = "server.properties")]
        file: Option<PathBuf>,
        /// A setting that wins over file and environment; may be given several times.
        #[arg(long = "override", value_name = "key=value", value_parser = setting)]
        overrides: Vec<(String, String)>,
    },
}

fn main() -> ExitCode {
    let Arguments { command, file, overrides } = Arguments::parse();
    let (recovers, file, overrides) = match command {
        Some(Command::Config) => {
            let written = std::io::stdout().lock().write_all(reference::markdown().as_bytes());
            return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Some(Command::Recover { file, overrides }) => (true, file, overrides),
        None => (false, file, overrides),
    };
    // Before any thread is started: they inherit what is blocked. Whoever recovers may be interrupted at any time.
    let signals = (!recovers).then(StopSignals::block);
    log_output::start();
    end_on_panic();
    let ended = match signals {
        None => recover(file, &overrides),
        Some(Ok(signals)) => run(file, &overrides, signals),
        Some(Err(error)) => Err(format!("cannot block the stop signals: {error}").into()),
    };
    if let Err(error) = &ended {
        log_output::say(&format!("flumen: {error}"));
    }
    log_output::finish();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(
    file: Option<PathBuf>,
    overrides: &[(String, String)],
    signals: StopSignals,
) -> Result<(), Box<dyn Error>> {
    Ok(broker::run(load(file, overrides)?, signals)?)
}

fn recover(file: Option<PathBuf>, overrides: &[(String, String)]) -> Result<(), Box<dyn Error>> {
    Ok(broker::recover(load(file, overrides)?)?)
}

/// A broken invariant ends the whole process: a broker without one of its cores would hang its clients, and
/// what was acknowledged is on the disk.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let (name, trace) = (thread.name().unwrap_or("?"), Backtrace::capture());
        log_output::say(&format!("thread '{name}': {panic}\n{trace}"));
        log_output::finish();
        std::process::abort();
    }));
}

fn load(file: Option<PathBuf>, overrides: &[(String, String)]) -> Result<BrokerConfig, Box<dyn Error>> {
    let host_name = process::host_name()?;
    let config = BrokerConfig::load(file.as_deref(), std::env::vars(), overrides, &host_name)?;
    tracing::info!("flumen {}", env!("CARGO_PKG_VERSION"));
    for (key, value, origin) in config.settings.iter() {
        let hidden = keys::find(key).is_some_and(|key| key.is_sensitive());
        tracing::info!("{key}={} ({origin})", if hidden { "[hidden]" } else { value });
    }
    for warning in config.settings.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be key=value")?;
    Ok((key.trim().to_string(), value.to_string()))
}

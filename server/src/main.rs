//! The binary `flumen`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flumen_ring::process;
use flumen_server::broker;
use flumen_server::config::{BrokerConfig, keys, reference};
use tracing_subscriber::EnvFilter;

/// Apache Kafka's broker on io_uring.
#[derive(Parser)]
#[command(name = "flumen", version, args_conflicts_with_subcommands = true)]
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
    end_on_panic();
    let Arguments { command, file, overrides } = Arguments::parse();
    let run = match command {
        Some(Command::Config) => {
            let written = std::io::stdout().lock().write_all(reference::markdown().as_bytes());
            return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Some(Command::Recover { file, overrides }) => load(file, &overrides).map(broker::recover),
        None => load(file, &overrides).map(broker::run),
    };
    match run {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&*error),
    }
}

fn failed(error: &dyn Error) -> ExitCode {
    // The log may go elsewhere; why it did not start belongs on the terminal.
    let _ = writeln!(std::io::stderr(), "flumen: {error}");
    ExitCode::FAILURE
}

/// A broken invariant ends the whole process: a broker without one of its cores would hang its clients, and
/// what was acknowledged is on the disk.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
}

fn load(file: Option<PathBuf>, overrides: &[(String, String)]) -> Result<BrokerConfig, Box<dyn Error>> {
    start_log();
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

/// Logs to standard error; `RUST_LOG` chooses what, in tracing's syntax.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be key=value")?;
    Ok((key.trim().to_string(), value.to_string()))
}

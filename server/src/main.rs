//! The binary `flumen`.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flumen_server::config::{BrokerConfig, reference};

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
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Config) = arguments.command {
        let written = std::io::stdout().lock().write_all(reference::markdown().as_bytes());
        return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let host_name = "localhost";
    match BrokerConfig::load(arguments.file.as_deref(), std::env::vars(), &arguments.overrides, host_name) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "flumen: {error}");
            ExitCode::from(2)
        }
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be key=value")?;
    Ok((key.trim().to_string(), value.to_string()))
}

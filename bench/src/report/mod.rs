//! Results for people: as text, and as one page of HTML that needs no network.

pub mod text;

mod input;

use std::path::PathBuf;

use clap::Args;

use self::input::Input;
use crate::error::BenchError;

/// What is to be shown.
#[derive(Args, Clone, Debug)]
pub struct ReportSettings {
    /// Results (.json) and interval logs (.hlog, also of other programs), or folders of them.
    #[arg(default_value = "target/bench")]
    pub paths: Vec<PathBuf>,
}

/// Reads all of it, and says it as text.
pub fn run(settings: &ReportSettings) -> Result<String, BenchError> {
    let input = Input::read(&settings.paths)?;
    Ok(input.text())
}

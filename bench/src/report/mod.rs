//! Results for people: as text, and as one page of HTML that needs no network.

pub mod text;

mod chart;
mod html;
mod input;
mod limit;
mod summary;

use std::path::{Path, PathBuf};

use clap::Args;

use self::input::Input;
use crate::compare::Comparison;
use crate::error::BenchError;
use crate::limits::LimitsResult;

/// What is to be shown.
#[derive(Args, Clone, Debug)]
pub struct ReportSettings {
    /// Results (.json) and interval logs (.hlog, also of other programs), or folders of them.
    #[arg(default_value = "target/bench")]
    pub paths: Vec<PathBuf>,
    /// Where the page is to be written; by default report.html beside what is read.
    #[arg(long)]
    pub html: Option<PathBuf>,
}

/// Scenarios as text, with the machine's limits and the goals.
pub fn scenarios(limits: LimitsResult, comparisons: Vec<Comparison>) -> String {
    Input { limits: Some(limits), comparisons, ..Input::default() }.text()
}

/// Reads all of it, writes the page, and says it as text.
pub fn run(settings: &ReportSettings) -> Result<String, BenchError> {
    let input = Input::read(&settings.paths)?;
    let beside = || {
        let first = settings.paths.first().map_or(Path::new("."), PathBuf::as_path);
        if first.is_dir() { first.join("report.html") } else { first.with_extension("html") }
    };
    let place = settings.html.clone().unwrap_or_else(beside);
    std::fs::write(&place, html::page(&input)?)
        .map_err(|source| BenchError::io(format!("write {}", place.display()), source))?;
    Ok(format!("{}\n{}", input.text(), place.display()))
}

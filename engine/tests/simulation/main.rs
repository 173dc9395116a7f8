//! Random histories of the whole engine on a simulated disk, each from one seed, checked against a model.
//!
//! A history is a few lives of a broker on one disk: it starts, recovers, serves producers, readers and an
//! administrator, and ends by a clean stop, a kill or a cut of power at any moment; faults of the disk are part of
//! it. Clients outlive the broker and retry as real ones do. What is checked stands in `model.rs`.
//!
//! ```text
//! FLUMEN_SIM_HISTORIES=1000   how many histories (default: a few)
//! FLUMEN_SIM_SEED=42          the first seed; with FLUMEN_SIM_HISTORIES=1, that history alone
//! FLUMEN_SIM_FAILURES=10      goes on until so many have failed (default: 1)
//! FLUMEN_SIM_TRACE=1          prints every event
//! ```

// What a history did is asked for on the terminal.
#![allow(clippy::print_stdout)]

mod client;
mod follower;
mod life;
mod model;
mod plan;
mod promises;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};

use flumen_engine::storage::sim::Mutation;

use life::Cheat;

/// Seeds of histories that found something, once it was mended.
const FINDINGS: [u64; 27] = [
    43, 66, 607, 619, 626, 645, 673, 1246, 2385, 2786, 3062, 3121, 3562, 3615, 4497, 5163, 11354, 28749,
    13507, 19584, 57088, 29716, 724183, 917911, 1129164, 2103484, 7119889,
];

/// Histories of an ordinary run of the tests; `scripts/test` asks for some thousands.
const HISTORIES: u64 = if cfg!(debug_assertions) { 40 } else { 1000 };

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs the history of a seed; what failed, if anything did.
fn run_history(seed: u64, cheat: Cheat) -> Result<life::Summary, String> {
    silence_panics();
    let trace = model::Trace::new(setting("FLUMEN_SIM_TRACE").is_some());
    let events = trace.clone();
    let outcome = catch_unwind(AssertUnwindSafe(|| life::run(seed, cheat, trace)));
    let reason = match outcome {
        Ok(Ok(summary)) => return Ok(summary),
        Ok(Err(reason)) => reason,
        Err(panic) => panic_message(&*panic),
    };
    Err(format!("{reason}\n--- the last events of seed {seed}:\n{}", events.last_events()))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let message = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
    let place = PANIC_PLACE.with_borrow(String::clone);
    format!("panicked at {place}: {message}")
}

thread_local! {
    static PANIC_PLACE: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// A panic inside a history is a finding: it is reported once, with its seed, and not by the hook.
fn silence_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            PANIC_PLACE.with_borrow_mut(|held| *held = place);
            let in_history = std::thread::current().name().is_some_and(|name| name == "history");
            if !in_history || setting("FLUMEN_SIM_TRACE").is_some() {
                before(info);
            }
        }));
    });
}

/// Runs the histories of seeds on every core; the failures, by seed.
fn run_histories(
    seeds: impl IntoIterator<Item = u64>,
    cheat: Cheat,
    failures_max: usize,
) -> Vec<(u64, String)> {
    let seeds: Vec<u64> = seeds.into_iter().collect();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let work = || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let found = failures.lock().expect("no holder panics").len();
                    let Some(seed) = seeds.get(index).copied().filter(|_| found < failures_max) else {
                        return;
                    };
                    if let Err(reason) = run_history(seed, cheat) {
                        failures.lock().expect("no holder panics").push((seed, reason));
                    }
                }
            };
            let thread = std::thread::Builder::new().name("history".to_owned()).stack_size(16 << 20);
            thread.spawn_scoped(scope, work).expect("a thread can be started");
        }
    });
    let mut failures = failures.into_inner().expect("no holder panics");
    failures.sort();
    failures
}

#[test]
fn histories_keep_every_promise() {
    let first = setting("FLUMEN_SIM_SEED").unwrap_or(1);
    let count = setting("FLUMEN_SIM_HISTORIES").unwrap_or(HISTORIES);
    let started = std::time::Instant::now();
    let failures_max = setting("FLUMEN_SIM_FAILURES").unwrap_or(1);
    let failures = run_histories(first..first + count, Cheat::default(), failures_max as usize);
    for (seed, reason) in failures.iter().skip(1) {
        println!("seed {seed}: {reason}");
    }
    if let Some((seed, reason)) = failures.first() {
        panic!(
            "seed {seed}: {reason}\n--- replay it:\nFLUMEN_SIM_SEED={seed} FLUMEN_SIM_HISTORIES=1 \
             FLUMEN_SIM_TRACE=1 cargo test --release -p flumen-engine --test simulation histories -- --nocapture"
        );
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{count} histories from seed {first} kept every promise ({seconds:.1} s)");
}

#[test]
fn a_seed_replays_one_history() {
    for seed in 1000..1004 {
        let (first, again) = (run_history(seed, Cheat::default()), run_history(seed, Cheat::default()));
        assert_eq!(first, again, "seed {seed} has two histories");
    }
}

#[test]
fn what_was_found_once_stays_mended() {
    let failures = run_histories(FINDINGS, Cheat::default(), FINDINGS.len());
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A checker that cannot fail proves nothing: what breaks a promise must be found.
#[test]
fn a_disk_that_lies_is_noticed() {
    for disk in [
        Mutation::FlushDoesNothing,
        Mutation::JournalFlushDoesNothing,
        Mutation::SegmentFlushDoesNothing,
        Mutation::CutDoesNothing,
        Mutation::DirectorySyncDoesNothing,
        Mutation::ForgetsFlushedSector,
        Mutation::SwapsSectors,
    ] {
        let failures = run_histories(1..401, Cheat { disk, ..Cheat::default() }, 1);
        assert!(!failures.is_empty(), "{disk:?} was not noticed");
    }
}

/// As above, for an engine that forgets its producers, passes its bounds, or changes what a leader wrote: to the
/// checker it is the same whether the engine does so or the clients make it look so.
#[test]
fn an_engine_that_breaks_its_promises_is_noticed() {
    for cheat in [
        Cheat { forgets_producers: true, ..Cheat::default() },
        Cheat { doubles_memory: true, ..Cheat::default() },
        Cheat { rewrites_verbatim: true, ..Cheat::default() },
    ] {
        let failures = run_histories(1..401, cheat, 1);
        assert!(!failures.is_empty(), "{cheat:?} was not noticed");
    }
}

//! The simulated disk keeps exactly the promises of its fault model, and no other.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use flumen_ring::AlignedBuffer;

use super::*;
use crate::storage::{DataFile, Directory, OpenMode, Runtime, StorageErrorKind, WriteSource};

fn world(seed: u64) -> (Rc<SimRuntime>, SimDisk, Rc<SimDirectory>) {
    let mut random = Random::new(seed);
    let runtime = SimRuntime::new(random.fork(), 1_700_000_000_000);
    let disk = SimDisk::new(random.fork());
    let directory = SimDirectory::new(runtime.clone(), disk.clone());
    (runtime, disk, directory)
}

fn filled(byte: u8, length: usize) -> WriteSource {
    let mut buffer = AlignedBuffer::zeroed(length);
    buffer.fill(byte);
    WriteSource::Buffer(buffer)
}

async fn write(file: &Rc<dyn DataFile>, byte: u8, position: u64) {
    file.write(filled(byte, 4096), position).await.0.expect("no fault is planned");
}

#[test]
fn a_seed_replays_its_history() {
    let history = |seed| {
        let (runtime, _, _) = world(seed);
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        for task in 0..10 {
            let (order, sleeper) = (order.clone(), runtime.clone());
            runtime.spawn(Box::pin(async move {
                sleeper.yield_now().await;
                order.borrow_mut().push(task);
            }));
        }
        runtime.run(runtime.sleep(Duration::from_secs(1))).unwrap();
        let order = order.borrow().clone();
        (order, runtime.monotonic(), runtime.random())
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7).0, history(8).0);
}

#[test]
fn tasks_that_wait_for_each_other_are_a_deadlock() {
    let (runtime, _, _) = world(1);
    assert_eq!(runtime.run(std::future::pending::<()>()), Err(Stopped::Deadlock));
}

/// What the first block of a file may hold after a crash, over many seeds.
fn contents_after_crash(flush: bool) -> BTreeSet<Vec<u8>> {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (runtime, disk, directory) = world(seed);
        runtime
            .run(async {
                let file = directory.open(Path::new("f"), OpenMode::CreateNew).await.unwrap();
                file.allocate(0, 8192).await.unwrap();
                directory.sync_directory(Path::new("")).await.unwrap();
                file.sync_data().await.unwrap();
                write(&file, 1, 0).await;
                if flush {
                    file.sync_data().await.unwrap();
                }
            })
            .unwrap();
        disk.crash();
        let contents = disk.contents(Path::new("f")).expect("its name is durable");
        assert_eq!(contents.len(), 8192);
        seen.insert(contents[..4096].chunks(512).map(|sector| sector[0]).collect());
    }
    seen
}

#[test]
fn flushed_bytes_stay_and_others_are_torn() {
    assert_eq!(contents_after_crash(true), BTreeSet::from([vec![1; 8]]));
    let torn = contents_after_crash(false);
    assert!(torn.contains(&vec![0; 8]) && torn.contains(&vec![1; 8]) && torn.len() > 10);
}

#[test]
fn a_flush_of_one_file_says_nothing_about_another() {
    let mut lost = false;
    for seed in 0..50 {
        let (runtime, disk, directory) = world(seed);
        runtime
            .run(async {
                let first = directory.open(Path::new("a"), OpenMode::CreateNew).await.unwrap();
                let second = directory.open(Path::new("b"), OpenMode::CreateNew).await.unwrap();
                directory.sync_directory(Path::new("")).await.unwrap();
                for file in [&first, &second] {
                    file.allocate(0, 4096).await.unwrap();
                    write(file, 9, 0).await;
                }
                first.sync_data().await.unwrap();
            })
            .unwrap();
        disk.crash();
        assert_eq!(disk.contents(Path::new("a")), Some(vec![9; 4096]));
        lost |= disk.contents(Path::new("b")) != Some(vec![9; 4096]);
    }
    assert!(lost);
}

#[test]
fn a_name_is_durable_only_with_its_folder() {
    let mut found = BTreeSet::new();
    for seed in 0..50 {
        let (runtime, disk, directory) = world(seed);
        runtime
            .run(async {
                directory.create_directory(Path::new("d")).await.unwrap();
                let file = directory.open(Path::new("d/f"), OpenMode::CreateNew).await.unwrap();
                file.sync_data().await.unwrap();
                directory.sync_directory(Path::new("d")).await.unwrap();
            })
            .unwrap();
        disk.crash();
        found.insert(disk.contents(Path::new("d/f")).is_some());
    }
    assert_eq!(found, BTreeSet::from([false, true]));
}

#[test]
fn replacing_a_file_leaves_the_old_or_the_new() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (runtime, disk, directory) = world(seed);
        let replace = |contents: &str| directory.replace(Path::new("c"), contents.as_bytes().to_vec());
        runtime.run(replace("old")).unwrap().unwrap();
        disk.crash_after(Some(1 + seed % 9));
        let replaced = runtime.run(replace("new")).is_ok();
        disk.crash();
        let contents = disk.contents(Path::new("c")).expect("one of them is there");
        assert!(contents == b"new" || (contents == b"old" && !replaced));
        seen.insert(contents);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_full_disk_refuses_and_stays_sound() {
    let (runtime, disk, directory) = world(3);
    disk.set_faults(FaultPlan { capacity_bytes: 10_000, ..FaultPlan::default() });
    runtime
        .run(async {
            let file = directory.open(Path::new("f"), OpenMode::CreateNew).await.unwrap();
            file.allocate(0, 8192).await.unwrap();
            let full = file.allocate(8192, 8192).await.expect_err("there is no room");
            assert_eq!(full.kind, StorageErrorKind::NoSpace);
            write(&file, 1, 4096).await;
        })
        .unwrap();
}

#[test]
#[should_panic(expected = "overlap")]
fn overlapping_writes_are_found() {
    let (runtime, _, directory) = world(4);
    runtime
        .run(async {
            let file = directory.open(Path::new("f"), OpenMode::CreateNew).await.unwrap();
            file.allocate(0, 8192).await.unwrap();
            let writes = [file.write(filled(1, 8192), 0), file.write(filled(2, 4096), 4096)];
            futures_util::future::join_all(writes).await;
        })
        .unwrap();
}

#[test]
#[should_panic(expected = "unaligned")]
fn an_unaligned_write_is_found() {
    let (runtime, _, directory) = world(5);
    runtime
        .run(async {
            let file = directory.open(Path::new("f"), OpenMode::CreateNew).await.unwrap();
            file.write(filled(1, 4096), 100).await.0
        })
        .unwrap()
        .unwrap();
}

use std::path::Path;

use flumen_ring::{AlignedBuffer, Reactor, ReactorConfig, Region};

use super::*;
use crate::storage::{Directory, DirectoryEntry, OpenMode, WriteSource};

/// Runs `check` on a fresh directory, buffered and, where the file system has it, with direct I/O.
fn on_each_kind(check: impl AsyncFn(&dyn Runtime, &dyn Directory)) {
    for direct in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = match LogDirectory::open(&folder.path().join("logs"), direct) {
            Ok(directory) => directory,
            Err(LogDirectoryError::DirectIo(_)) if direct => continue,
            Err(error) => panic!("{error}"),
        };
        let reactor = Reactor::new(ReactorConfig::default()).expect("a reactor");
        let runtime = RingRuntime::new(&reactor.ring());
        let attached = directory.attach(&reactor.ring());
        reactor.run(check(&*runtime, &*attached));
    }
}

#[test]
fn a_data_file_keeps_what_was_written() {
    on_each_kind(async |_, directory| {
        let path = Path::new("topic-0/00000000000000000000.log");
        directory.create_directory(Path::new("topic-0")).await.expect("created");
        directory.create_directory(Path::new("topic-0")).await.expect("it may exist");
        let missing = directory.open(path, OpenMode::Existing).await.err().expect("missing");
        assert_eq!((missing.kind, &*missing.path), (StorageErrorKind::NotFound, path));
        let file = directory.open(path, OpenMode::CreateNew).await.expect("created");
        file.allocate(0, 65536).await.expect("allocated");
        let mut region = Region::on_heap(8192);
        let slice = region.append_with(8192, |bytes| bytes.fill(3));
        let (result, _) = file.write(WriteSource::Slice(slice), 4096).await;
        result.expect("written");
        let mut tail = AlignedBuffer::zeroed(4096);
        tail[..10].fill(4);
        let (result, source) = file.write(WriteSource::Buffer(tail), 12288).await;
        result.expect("written");
        assert!(matches!(source, WriteSource::Buffer(buffer) if buffer[9] == 4));
        file.sync_data().await.expect("flushed");
        file.truncate(12298).await.expect("cut");
        assert_eq!(file.length().await.expect("a length"), 12298);
        drop(file);
        let file = directory.open(path, OpenMode::Existing).await.expect("opened");
        let (result, buffer) = file.read(AlignedBuffer::zeroed(65536), 0, 65536).await;
        assert_eq!(result.expect("read"), 12298, "up to the end of the file");
        assert!(buffer[..4096].iter().all(|byte| *byte == 0));
        assert!(buffer[4096..12288].iter().all(|byte| *byte == 3));
        assert!(buffer[12288..12298].iter().all(|byte| *byte == 4));
    });
}

#[test]
fn names_behave_as_the_seam_says() {
    on_each_kind(async |runtime, directory| {
        let (root, checkpoint) = (Path::new(""), Path::new("recovery-point-offset-checkpoint"));
        directory.replace(checkpoint, b"0\n0\n".to_vec()).await.expect("written");
        directory.replace(checkpoint, b"0\n1\n".to_vec()).await.expect("replaced");
        assert_eq!(directory.read(checkpoint, 4).await.expect("read"), b"0\n1\n");
        let error = directory.read(checkpoint, 3).await.expect_err("too long");
        assert_eq!(error.kind, StorageErrorKind::Errno(27));
        directory.create_directory(Path::new("a-0")).await.expect("created");
        directory.replace(Path::new("a-0/partition.metadata"), b"x".to_vec()).await.expect("written");
        directory.rename(Path::new("a-0"), Path::new("a-0.deleted")).await.expect("renamed");
        directory.sync_directory(root).await.expect("flushed");
        let names: Vec<_> = directory.list(root).await.expect("listed");
        let age_ms = |entry: &DirectoryEntry| Some(runtime.wall_ms() - entry.modified_ms?);
        assert!(names.iter().all(|entry| entry.is_directory == age_ms(entry).is_none()));
        assert!(names.iter().filter_map(age_ms).all(|age_ms| (-1000..60_000).contains(&age_ms)));
        let names: Vec<_> =
            names.iter().map(|entry| (&*entry.name, entry.is_directory, entry.length)).collect();
        assert_eq!(
            names,
            [(".lock", false, 0), ("a-0.deleted", true, 0), ("recovery-point-offset-checkpoint", false, 4)]
        );
        directory.remove_directory(Path::new("a-0.deleted")).await.expect("removed");
        directory.remove_directory(Path::new("a-0.deleted")).await.expect("it may be missing");
        directory.remove_file(checkpoint).await.expect("removed");
        directory.remove_file(checkpoint).await.expect("it may be missing");
        let error = directory.list(Path::new("a-0")).await.expect_err("missing");
        assert_eq!((error.operation, error.kind), ("list", StorageErrorKind::NotFound));
    });
}

#[test]
fn what_is_read_together_is_what_each_holds() {
    on_each_kind(async |_, directory| {
        let folder = Path::new("t-0");
        directory.create_directory(folder).await.expect("created");
        // As long as what is read at once, longer, and shorter.
        for (name, length) in [("exact", 1024), ("long", 5000), ("short", 3), ("empty", 0)] {
            directory.replace(&folder.join(name), vec![7; length]).await.expect("written");
        }
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let read =
            directory.read_each(folder, names(&["long", "none", "empty", "short", "exact"]), 5000).await;
        let lengths: Vec<_> = read.expect("read").iter().map(|file| file.as_ref().map(Vec::len)).collect();
        assert_eq!(lengths, [Some(5000), None, Some(0), Some(3), Some(1024)]);
        let error = directory.read_each(folder, names(&["short", "long"]), 4999).await.expect_err("too long");
        assert_eq!((error.kind, &*error.path), (StorageErrorKind::Errno(27), Path::new("t-0/long")));
    });
}

#[test]
fn time_moves_and_tasks_run() {
    on_each_kind(async |runtime, _| {
        let before = runtime.monotonic();
        let pause = Duration::from_millis(2);
        runtime.sleep(pause).await;
        assert!(runtime.monotonic() - before >= pause);
        assert!(runtime.wall_ms() > 1_600_000_000_000);
        assert_ne!(runtime.random(), runtime.random());
        let ran = Rc::new(Cell::new(false));
        let flag = ran.clone();
        runtime.spawn(Box::pin(async move { flag.set(true) }));
        runtime.yield_now().await;
        assert!(ran.get());
    });
}

#[test]
fn a_directory_is_of_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = LogDirectory::open(folder.path(), false).expect("free");
    let error = LogDirectory::open(folder.path(), false).expect_err("held");
    assert!(error.to_string().contains(".lock"), "{error}");
    drop(first);
    LogDirectory::open(folder.path(), false).expect("free again");
}

#[test]
fn a_directory_that_cannot_be_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), b"").expect("written");
    let error = LogDirectory::open(&folder.path().join("file/logs"), false).expect_err("not a folder");
    assert!(error.to_string().contains("file/logs"), "{error}");
}

#[test]
fn the_time_of_a_turn_keeps_up_with_the_clocks() {
    let reactor = Reactor::new(ReactorConfig::default()).expect("a reactor");
    let runtime = RingRuntime::new(&reactor.ring());
    reactor.run(async {
        let (mut turns, mut walls) = (Vec::new(), Vec::new());
        let began = runtime.monotonic();
        while runtime.monotonic() - began < Duration::from_millis(20) {
            let (before, wall_before) = (runtime.monotonic(), runtime.wall_ms());
            runtime.yield_now().await;
            let (turn, wall) = (runtime.turn_began(), runtime.turn_wall_ms());
            assert!(before <= turn && turn <= runtime.monotonic(), "{turn:?} began after {before:?}");
            // It may be a millisecond old, and both are rounded.
            assert!((wall_before - 2..=runtime.wall_ms()).contains(&wall), "{wall} is not {wall_before}");
            turns.push(turn);
            walls.push(wall);
        }
        assert!(turns.is_sorted() && walls.is_sorted());
        walls.dedup();
        assert!(walls.len() >= 5, "{walls:?}");
    });
}

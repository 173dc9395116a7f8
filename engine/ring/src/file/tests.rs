use super::*;
use crate::{AlignedBuffer, Reactor, ReactorConfig, Region};

fn create(direct: bool) -> OpenOptions {
    OpenOptions { create: true, create_new: false, direct }
}

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let reactor = Reactor::new(ReactorConfig::default()).expect("a reactor");
    let helper = Helper::start("test-helper").expect("a thread");
    let ring = reactor.ring();
    let direct = probe_direct_io(directory.path()).is_ok();
    let path = directory.path().join("file");
    reactor.run(async {
        let file = File::open(&ring, &helper, &path, create(direct)).await.expect("opened");
        file.allocate(0, 16384).await.expect("allocated");
        assert_eq!(file.length().await.expect("a length"), 16384);
        assert!(!file.holds_data_from(0).await.expect("looked"), "space was reserved only");
        let mut region = Region::on_heap(8192);
        let slice = region.append_with(8192, |bytes| bytes.fill(7));
        let (result, _) = file.write_at(slice, 0..8192, 4096).await;
        result.expect("written");
        file.sync_data().await.expect("flushed");
        for (position, holds) in
            [(0, true), (8192, true), (12_288, false), (16_384, false), (u64::MAX, false)]
        {
            assert_eq!(file.holds_data_from(position).await.expect("looked"), holds, "from {position}");
        }
        let (read, buffer) = file.read_at(AlignedBuffer::zeroed(16384), 0..16384, 0).await;
        assert_eq!(read.expect("read"), 16384);
        assert!(buffer[..4096].iter().chain(&buffer[12288..]).all(|byte| *byte == 0));
        assert!(buffer[4096..12288].iter().all(|byte| *byte == 7));
        file.truncate(5000).await.expect("cut");
        let (read, _) = file.read_at(AlignedBuffer::zeroed(16384), 0..16384, 0).await;
        assert_eq!(read.expect("read"), 5000);
        let new = OpenOptions { create_new: true, ..create(direct) };
        let error = File::open(&ring, &helper, &path, new).await.expect_err("it exists");
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    });
}

#[test]
fn dropped_writes_keep_their_memory_until_they_end() {
    let directory = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let reactor = Reactor::new(ReactorConfig { entries: 8 }).expect("a reactor");
    let helper = Helper::start("test-helper").expect("a thread");
    let ring = reactor.ring();
    let path = directory.path().join("file");
    reactor.run(async {
        let file = File::open(&ring, &helper, &path, create(false)).await.expect("opened");
        // More than the submission queue holds; each is dropped while it is under way.
        for block in 0..64_u64 {
            let bytes = vec![block as u8 + 1; 4096];
            let mut writing = Box::pin(file.write_at(bytes, 0..4096, block * 4096));
            let polled = futures_poll(writing.as_mut());
            assert!(polled.is_none());
        }
        file.sync_data().await.expect("flushed");
        let deadline = ring.now() + std::time::Duration::from_secs(10);
        while file.length().await.expect("a length") < 64 * 4096 {
            assert!(ring.now() < deadline, "dropped writes end all the same");
            ring.yield_now().await;
        }
    });
    drop(reactor);
    drop(ring);
    let bytes = std::fs::read(&path).expect("read");
    assert!(bytes.chunks(4096).enumerate().all(|(block, bytes)| bytes.iter().all(|b| *b == block as u8 + 1)));
}

fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

//! `sendfile` from chunks: integrity behind evictions, pins, slow readers.

use std::time::{Duration, Instant};

use super::tests::{pair, reactor};
use super::*;
use crate::{CHUNK_BYTES, ChunkPool, Helper, SendPiece, Slice};

/// A byte that tells where in which stream it belongs.
fn pattern(stream: usize, position: usize) -> u8 {
    (position.wrapping_mul(31) >> 3) as u8 ^ (stream as u8).wrapping_mul(37)
}

async fn take_filled(ring: &Ring, pool: &mut ChunkPool, stream: usize, start: usize) -> Slice {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(chunk) = pool.take() {
            let mut region = chunk.into_region();
            return region.append_with(CHUNK_BYTES, |bytes| {
                bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = pattern(stream, start + at));
            });
        }
        assert!(Instant::now() < deadline, "{:?}", pool.stats());
        ring.yield_now().await;
    }
}

async fn receive_and_check(socket: Socket, stream: usize, length: usize) {
    let mut buffer = Vec::with_capacity(256 << 10);
    let mut position = 0;
    while position < length {
        let (received, returned) = socket.recv(buffer, 0..256 << 10).await;
        buffer = returned;
        let received = received.expect("received");
        assert!(received > 0, "the stream ended at {position}");
        for (at, byte) in buffer[..received].iter().enumerate() {
            assert_eq!(*byte, pattern(stream, position + at), "stream {stream} at {}", position + at);
        }
        position += received;
    }
}

#[test]
fn what_was_sent_arrives_although_its_chunk_was_evicted_and_used_again() {
    let reactor = reactor();
    let ring = reactor.ring();
    let helper = Helper::start("test-helper").expect("a thread");
    // Few chunks, so that each is punched and used again many times while readers lag behind.
    let mut pool = ChunkPool::memfd(16, &helper).expect("a pool");
    reactor.run(async {
        const STREAMS: usize = 4;
        const ROUNDS: usize = 12;
        let mut writers = Vec::new();
        let mut readers = Vec::new();
        for stream in 0..STREAMS {
            let (client, server) = pair(&ring).await;
            writers.push(server);
            readers.push(ring.spawn_with(receive_and_check(client, stream, ROUNDS * CHUNK_BYTES)));
        }
        for round in 0..ROUNDS {
            let mut sending = Vec::new();
            for (stream, writer) in writers.iter().enumerate() {
                let slice = take_filled(&ring, &mut pool, stream, round * CHUNK_BYTES).await;
                let writer = writer.clone();
                sending.push(ring.spawn_with(async move { writer.sendfile(slice).await }));
            }
            for sending in sending {
                sending.await.expect("sent");
            }
        }
        for reader in readers {
            reader.await;
        }
        drop(writers);
        let deadline = Instant::now() + Duration::from_secs(10);
        while pool.stats().ghosts > 0 {
            assert!(Instant::now() < deadline, "{:?}", pool.stats());
            ring.yield_now().await;
        }
    });
}

#[test]
fn a_reader_that_stopped_pins_its_ghosts_until_it_drains() {
    let reactor = reactor();
    let ring = reactor.ring();
    let helper = Helper::start("test-helper").expect("a thread");
    let mut pool = ChunkPool::memfd(8, &helper).expect("a pool");
    if !pool.stats().huge {
        return;
    }
    reactor.run(async {
        let (client, server) = pair(&ring).await;
        client.set_buffer_sizes(Some(4096), None).expect("set");
        server.set_buffer_sizes(None, Some(256 << 10)).expect("set");
        // The receiver's buffer is full first; what follows waits at the sender.
        let filler = vec![0_u8; 32 << 10];
        let filled = ring.timeout(Duration::from_secs(5), server.send(vec![filler.clone().into()])).await;
        filled.expect("it fits the sender's buffer").expect("sent");
        let slice = take_filled(&ring, &mut pool, 1, 0).await;
        server.sendfile(slice.slice(0..16 << 10)).await.expect("sent");
        drop(slice);
        assert!(server.unsent() > 0 && server.written() == (48 << 10));
        let deadline = Instant::now() + Duration::from_secs(10);
        while pool.stats().retired == 0 {
            assert!(Instant::now() < deadline, "{:?}", pool.stats());
            ring.yield_now().await;
        }
        // Its memory is wanted.
        let _taken = pool.take().expect("ready");
        while pool.stats().ghosts == 0 {
            assert!(Instant::now() < deadline, "{:?}", pool.stats());
            ring.yield_now().await;
        }
        let (received, _) = client.recv_exact(Vec::with_capacity(48 << 10), 0..48 << 10).await;
        received.expect("received");
        while pool.stats().ghosts > 0 {
            assert!(Instant::now() < deadline, "{:?}", pool.stats());
            ring.timeout(Duration::from_millis(10), std::future::pending::<()>()).await;
        }
        // Nobody sweeps when nothing is pinned: of the tasks, none is left.
        while ring.stats().tasks > 0 {
            assert!(Instant::now() < deadline);
            ring.timeout(Duration::from_millis(10), std::future::pending::<()>()).await;
        }
    });
}

#[test]
fn small_and_large_pieces_keep_their_order() {
    let reactor = reactor();
    let ring = reactor.ring();
    let helper = Helper::start("test-helper").expect("a thread");
    let mut pool = ChunkPool::memfd(4, &helper).expect("a pool");
    reactor.run(async {
        let (client, server) = pair(&ring).await;
        let slice = take_filled(&ring, &mut pool, 3, 0).await;
        let pieces: Vec<SendPiece> = vec![
            vec![1; 10].into(),
            slice.slice(0..100_000).into(),
            vec![2; 5].into(),
            slice.slice(7..20).into(),
            slice.slice(500_001..1_700_000).into(),
            vec![3; 1].into(),
        ];
        let expected: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let length = expected.len();
        let sending = ring.spawn_with(async move { server.transmit(pieces, 65536).await });
        let (result, received) = client.recv_exact(Vec::with_capacity(length), 0..length).await;
        result.expect("received");
        sending.await.expect("sent");
        assert!(received == expected);
    });
}

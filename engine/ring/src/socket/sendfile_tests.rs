//! `sendfile` from chunks: integrity behind evictions, pins, slow readers.

use std::time::{Duration, Instant};

use super::tests::{pair, reactor};
use super::*;
use crate::{CHUNK_BYTES, ChunkPool, ChunkStats, SendPiece, Slice};

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

/// Runs `test` on a ring of its own, with a pool of so many chunks.
fn with_pool(chunks: usize, test: impl AsyncFnOnce(&Ring, &mut ChunkPool)) {
    let reactor = reactor();
    let ring = reactor.ring();
    let mut pool = ChunkPool::prepared(chunks);
    reactor.run(test(&ring, &mut pool));
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
    // Few chunks, so that each is punched and used again many times while readers lag behind.
    with_pool(16, async |ring, pool| {
        const STREAMS: usize = 4;
        const ROUNDS: usize = 12;
        let mut writers = Vec::new();
        let mut readers = Vec::new();
        for stream in 0..STREAMS {
            let (client, server) = pair(ring).await;
            writers.push(server);
            readers.push(ring.spawn_with(receive_and_check(client, stream, ROUNDS * CHUNK_BYTES)));
        }
        for round in 0..ROUNDS {
            let mut sending = Vec::new();
            for (stream, writer) in writers.iter().enumerate() {
                let slice = take_filled(ring, pool, stream, round * CHUNK_BYTES).await;
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
    with_pool(8, async |ring, pool| {
        if !pool.stats().huge {
            return;
        }
        let (client, server) = pair(ring).await;
        client.set_buffer_sizes(Some(4096), None).expect("set");
        server.set_buffer_sizes(None, Some(256 << 10)).expect("set");
        // The receiver's buffer is full first; what follows waits at the sender.
        let filler = vec![0_u8; 32 << 10];
        let filled = ring.timeout(Duration::from_secs(5), server.send(vec![filler.clone().into()])).await;
        filled.expect("it fits the sender's buffer").expect("sent");
        let slice = take_filled(ring, pool, 1, 0).await;
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

/// A connection that has a small receive buffer and does not read, with its sender's buffer small as well.
async fn stuck_pair(ring: &Ring) -> (Socket, Socket) {
    let (client, server) = pair(ring).await;
    client.set_buffer_sizes(Some(4096), None).expect("set");
    server.set_buffer_sizes(None, Some(64 << 10)).expect("set");
    (client, server)
}

async fn wait_for_stats(ring: &Ring, pool: &mut ChunkPool, condition: impl Fn(ChunkStats) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition(pool.stats()) {
        assert!(Instant::now() < deadline, "{:?}", pool.stats());
        ring.timeout(Duration::from_millis(10), std::future::pending::<()>()).await;
    }
}

#[test]
fn a_reader_that_stops_in_the_middle_does_not_keep_the_cache() {
    // By copy, by file, and with both kinds still to come.
    for sendfile_bytes_min in [usize::MAX, 1 << 20, 0] {
        with_pool(8, async |ring, pool| {
            let (client, server) = pair(ring).await;
            server.set_buffer_sizes(None, Some(64 << 10)).expect("set");
            let first = take_filled(ring, pool, 1, 0).await;
            let second = take_filled(ring, pool, 1, CHUNK_BYTES).await;
            let cuts = [0, 600_000, 700_000, CHUNK_BYTES];
            let mut pieces: Vec<SendPiece> = vec![vec![7; 100].into()];
            pieces.extend(cuts.windows(2).map(|cut| first.slice(cut[0]..cut[1]).into()));
            pieces.extend(cuts.windows(2).map(|cut| second.slice(cut[0]..cut[1]).into()));
            drop((first, second));
            let sending = ring.spawn_with({
                let server = server.clone();
                async move { server.transmit(pieces, sendfile_bytes_min).await }
            });
            // What the network holds of them may stay as a ghost, what was not sent may not.
            wait_for_stats(ring, pool, |stats| stats.in_use == 0 && stats.ghosts <= 1).await;
            assert!(server.written() < CHUNK_BYTES as u64, "{} bytes are gone", server.written());
            // Late, but all of it and in order.
            let (received, head) = client.recv_exact(Vec::with_capacity(100), 0..100).await;
            received.expect("received");
            assert_eq!(head, [7; 100]);
            receive_and_check(client, 1, 2 * CHUNK_BYTES).await;
            sending.await.expect("sent");
            wait_for_stats(ring, pool, |stats| stats.ghosts == 0).await;
            drop(server);
            // Nobody looks after connections that send nothing.
            let deadline = Instant::now() + Duration::from_secs(10);
            while ring.stats().tasks > 0 {
                assert!(Instant::now() < deadline);
                ring.timeout(Duration::from_millis(10), std::future::pending::<()>()).await;
            }
        });
    }
}

#[test]
fn a_slow_reader_that_reads_on_is_sent_by_file_to_the_end() {
    with_pool(8, async |ring, pool| {
        if !pool.stats().huge {
            return;
        }
        let (client, server) = pair(ring).await;
        server.set_buffer_sizes(None, Some(64 << 10)).expect("set");
        let mut pieces: Vec<SendPiece> = Vec::new();
        for number in 0..6 {
            pieces.push(take_filled(ring, pool, 1, number * CHUNK_BYTES).await.into());
        }
        let sending = ring.spawn_with({
            let server = server.clone();
            async move { server.transmit(pieces, 0).await }
        });
        // Some 4 MiB a second, for longer than anybody who does not read is waited for.
        for _ in 0..24 {
            let (received, _) = client.recv_exact(Vec::with_capacity(512 << 10), 0..512 << 10).await;
            received.expect("received");
            ring.timeout(Duration::from_millis(120), std::future::pending::<()>()).await;
            let left = 6 * CHUNK_BYTES - usize::try_from(server.written()).expect("a few bytes");
            assert!(
                pool.stats().in_use >= left / CHUNK_BYTES,
                "its slices were exchanged: {:?}",
                pool.stats()
            );
        }
        sending.await.expect("sent");
    });
}

#[test]
fn a_reader_that_pins_ghosts_for_too_long_is_closed() {
    with_pool(8, async |ring, pool| {
        if !pool.stats().huge {
            return;
        }
        ring.pinned().set_patience(Duration::from_millis(300));
        let (client, server) = stuck_pair(ring).await;
        let slice = take_filled(ring, pool, 1, 0).await;
        let part = slice.slice(0..40 << 10);
        server.sendfile(part).await.expect("it fits the sender's buffer");
        // Evicted or not: as long as the chunk is none that is waited for, nobody is closed.
        let waited = ring.timeout(Duration::from_millis(900), server.hung_up()).await;
        assert!(waited.is_none(), "closed without need");
        drop(slice);
        wait_for_stats(ring, pool, |stats| stats.retired == 1).await;
        // Its memory is wanted.
        let _taken = pool.take().expect("ready");
        wait_for_stats(ring, pool, |stats| stats.ghosts == 1).await;
        let closed = ring.timeout(Duration::from_secs(10), server.hung_up()).await;
        assert!(closed.is_some(), "it keeps its ghost");
        assert!(server.send(vec![vec![0; 1].into()]).await.is_err());
        drop(server);
        wait_for_stats(ring, pool, |stats| stats.ghosts == 0).await;
        // What was not sent is forgotten, not kept for the peer: it hears of a reset, at the latest behind what it
        // has already.
        let mut buffer = Vec::with_capacity(64 << 10);
        let end = loop {
            let (received, returned) = client.recv(buffer, 0..64 << 10).await;
            buffer = returned;
            match received {
                Ok(0) => break None,
                Ok(_) => {}
                Err(error) => break Some(error.kind()),
            }
        };
        assert_eq!(end, Some(io::ErrorKind::ConnectionReset));
    });
}

#[test]
fn small_and_large_pieces_keep_their_order() {
    with_pool(4, async |ring, pool| {
        let (client, server) = pair(ring).await;
        let slice = take_filled(ring, pool, 3, 0).await;
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

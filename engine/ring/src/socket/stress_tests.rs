//! Many connections at once, with slow readers, receives that are given up, writers that are cut off, memory
//! that is evicted under way, and a ring much smaller than what is under way.

use std::cell::Cell;
use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::tests::pair;
use super::*;
use crate::{CHUNK_BYTES, ChunkHelpers, ChunkPool, Reactor, ReactorConfig, SendPiece};

/// SplitMix64: a failure is replayed by its seed, as far as the kernel plays along.
#[derive(Clone)]
struct Random(Rc<Cell<u64>>);

impl Random {
    fn below(&self, limit: usize) -> usize {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

fn byte_at(stream: usize, position: usize) -> u8 {
    (position.wrapping_mul(17) >> 2) as u8 ^ (stream as u8).wrapping_mul(91)
}

/// Writes `length` bytes of a stream's pattern, by copy and by `sendfile`, in pieces of many sizes.
async fn write_stream(
    socket: Socket,
    pool: Rc<RefCell<ChunkPool>>,
    ring: Ring,
    random: Random,
    stream: usize,
    length: usize,
) -> io::Result<()> {
    let mut position = 0;
    while position < length {
        let mut pieces: Vec<SendPiece> = Vec::new();
        for _ in 0..=random.below(4) {
            let size = (1 + random.below([100, 5000, 300_000][random.below(3)])).min(length - position);
            let fill = |bytes: &mut [u8]| {
                bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = byte_at(stream, position + at));
            };
            let chunk = pool.borrow_mut().take();
            match chunk {
                Some(chunk) if size > 4096 => {
                    pieces.push(chunk.into_region().append_with(size.min(CHUNK_BYTES), fill).into());
                }
                _ => {
                    let mut bytes = vec![0; size];
                    fill(&mut bytes);
                    pieces.push(bytes.into());
                }
            }
            position += size;
        }
        socket.transmit(pieces, 32 << 10).await?;
        if random.below(8) == 0 {
            ring.yield_now().await;
        }
    }
    Ok(())
}

/// Reads a stream and checks it; gives up receives half-way, and is slow at times. How far it came.
async fn read_stream(socket: Socket, ring: Ring, random: Random, stream: usize, stop_at: usize) -> usize {
    let mut position = 0;
    while position < stop_at {
        let room = 1 + random.below(200_000);
        let buffer = Vec::with_capacity(room);
        let patience = Duration::from_micros(random.below(300) as u64);
        let outcome = match random.below(4) {
            // Given up before anything came, no byte may be lost: so only while nothing is there.
            0 if socket.unread() == 0 => ring.timeout(patience, socket.readable()).await.map(|_| None),
            1 => {
                let pause = ring.now() + patience;
                ring.sleep_until(pause).await;
                None
            }
            _ => Some(Some(socket.recv(buffer, 0..room).await)),
        };
        let Some(Some((received, bytes))) = outcome else { continue };
        match received {
            Ok(0) | Err(_) => return position,
            Ok(received) => {
                for (at, byte) in bytes[..received].iter().enumerate() {
                    assert_eq!(*byte, byte_at(stream, position + at), "stream {stream} at {}", position + at);
                }
                position += received;
            }
        }
    }
    position
}

#[test]
fn streams_stay_whole_under_stress() {
    for seed in 1..=4 {
        // Far fewer entries than operations.
        let reactor = Reactor::new(ReactorConfig { entries: 4 }).expect("a reactor");
        let ring = reactor.ring();
        let helpers = ChunkHelpers::prompt().0;
        let pool = Rc::new(RefCell::new(ChunkPool::memfd(24, &helpers).expect("a pool")));
        let random = Random(Rc::new(Cell::new(seed)));
        reactor.run(async {
            let mut readers = Vec::new();
            let mut writers = Vec::new();
            for stream in 0..24 {
                let (client, server) = pair(&ring).await;
                if random.below(3) == 0 {
                    client.set_buffer_sizes(Some(256 << 10), None).expect("set");
                }
                let length = 1 + random.below(2 << 20);
                // Some readers leave early, some writers are cut off.
                let stop_at = if random.below(4) == 0 { random.below(length) } else { length };
                let writing =
                    write_stream(server, pool.clone(), ring.clone(), random.clone(), stream, length);
                let cut = (random.below(4) == 0).then(|| Duration::from_micros(random.below(3000) as u64));
                let ring_of_writer = ring.clone();
                writers.push(ring.spawn_with(async move {
                    match cut {
                        Some(after) => {
                            ring_of_writer.timeout(after, writing).await.is_some_and(|r| r.is_ok())
                        }
                        None => writing.await.is_ok(),
                    }
                }));
                let (ring_of_reader, random) = (ring.clone(), random.clone());
                readers.push(ring.spawn_with(async move {
                    let position = read_stream(client.clone(), ring_of_reader, random, stream, stop_at).await;
                    client.close();
                    (position, stop_at, length)
                }));
            }
            for (reader, writer) in readers.into_iter().zip(writers) {
                let (position, stop_at, length) = reader.await;
                let written = writer.await;
                assert!(
                    !written || stop_at < length || position == length,
                    "seed {seed}: {position} of {length}"
                );
            }
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                let stats = pool.borrow_mut().stats();
                if stats.in_use == 0 && stats.ghosts == 0 {
                    break;
                }
                assert!(Instant::now() < deadline, "seed {seed}: {stats:?}");
                ring.yield_now().await;
            }
        });
    }
}

//! L8: what a broker cannot do without on the way in, and nothing of Kafka: receive, copy into aligned memory,
//! checksum, write past the page cache. One thread of glommio, as a broker on one core would be.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use futures_util::AsyncReadExt;
use glommio::net::TcpListener;

use super::disk::{gather, in_executor, prepared, scratch, wrong};
use super::network::send_all;
use super::work::{Done, Stopwatch};
use super::{FILE_BYTES, Limit, LimitSettings};
use crate::error::BenchError;
use crate::measure::cores;

const CONNECTIONS: usize = 8;
/// What is received for one request.
const PIECE_BYTES: usize = 256 << 10;
/// What is written at once.
const WRITE_BYTES: usize = 512 << 10;

/// L8.
pub fn receive_and_write(settings: &LimitSettings) -> Result<Vec<Limit>, BenchError> {
    let (tell, address) = mpsc::channel();
    let (broker_core, load_core) = (settings.broker_core, settings.load_core);
    let (path, seconds) = (scratch(settings), settings.seconds);
    let server = std::thread::spawn(move || {
        let _ = cores::pin(&[broker_core]);
        in_executor(serve(path, seconds, tell))
    });
    // Without an address the server has failed, and says why below.
    let client = address.recv().map(|address| {
        std::thread::spawn(move || {
            let _ = cores::pin(&[load_core]);
            // It is over when the server is gone.
            send_all(address, CONNECTIONS, Arc::default())
        })
    });
    let done = server.join().expect("a measurement does not panic")?;
    if let Ok(client) = client {
        client.join().expect("a measurement does not panic")?;
    }
    let what = format!("receive, copy, CRC-32C, O_DIRECT write, {CONNECTIONS} connections");
    Ok(vec![Limit::of_bytes("L8", &what, done)])
}

async fn serve(
    path: std::path::PathBuf,
    seconds: f64,
    tell: mpsc::Sender<SocketAddr>,
) -> Result<Done, BenchError> {
    let file = Rc::new(prepared(&path).await?);
    let listener = TcpListener::bind("127.0.0.1:0").map_err(wrong)?;
    // Whoever waits for the address is the caller, and stays.
    let _ = tell.send(listener.local_addr().map_err(wrong)?);
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        streams.push(listener.accept().await.map_err(wrong)?);
    }
    let next = Rc::new(Cell::new(0));
    let watch = Rc::new(Stopwatch::start());
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            let (file, next, watch) = (file.clone(), next.clone(), watch.clone());
            glommio::spawn_local(async move {
                let mut received = vec![0_u8; PIECE_BYTES];
                let mut bytes = 0;
                while watch.elapsed().as_secs_f64() < seconds {
                    let mut buffer = file.alloc_dma_buffer(WRITE_BYTES);
                    for piece in buffer.as_bytes_mut().chunks_mut(PIECE_BYTES) {
                        if stream.read_exact(&mut received).await.is_err() {
                            return Ok(bytes);
                        }
                        std::hint::black_box(crc32c::crc32c(&received));
                        piece.copy_from_slice(&received);
                    }
                    let at = next.replace((next.get() + WRITE_BYTES as u64) % FILE_BYTES);
                    bytes += file.write_at(buffer, at).await.map_err(wrong)? as u64;
                }
                Ok::<_, BenchError>(bytes)
            })
        })
        .collect();
    gather(tasks, &watch, file).await
}

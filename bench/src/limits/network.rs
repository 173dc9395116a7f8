//! The loopback: L1 receives, L6 sendfile, L7 echoes.

use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

use tokio_uring::buf::BoundedBuf;

use super::work::{Done, Stopwatch};
use super::{Limit, LimitSettings};
use crate::clock::Moment;
use crate::error::BenchError;
use crate::load::tally::new_histogram;
use crate::measure::cores;
use crate::result::LatencySummary;

const PIECE_BYTES: usize = 256 << 10;
/// What a Produce request with one record of 100 bytes has, and its answer.
const REQUEST_BYTES: usize = 230;
const ANSWER_BYTES: usize = 60;

/// L1: bytes from one connection, and from eight.
pub fn receive(settings: &LimitSettings) -> Result<Vec<Limit>, BenchError> {
    let mut limits = Vec::new();
    for connections in [1, 8] {
        let (done, ()) = both_sides(settings, connections, receive_all, send_all)?;
        let what = format!("TCP receive on loopback, {connections} connections");
        limits.push(Limit::of_bytes("L1", &what, done));
    }
    Ok(limits)
}

/// L7: requests and answers of Kafka's size, one under way on each connection.
pub fn echo(settings: &LimitSettings) -> Result<Vec<Limit>, BenchError> {
    let mut limits = Vec::new();
    for connections in [1, 64] {
        let (done, histogram) = both_sides(settings, connections, answer_all, ask_all)?;
        let what = format!(
            "TCP echo, {REQUEST_BYTES} B asked, {ANSWER_BYTES} B answered, {connections} connections"
        );
        let mut limit = Limit::of_requests("L7", &what, done);
        limit.latency = LatencySummary::of(&histogram);
        limits.push(limit);
    }
    Ok(limits)
}

/// L6: sendfile from memory into a connection that is read as fast as can be.
pub fn sendfile(settings: &LimitSettings) -> Result<Vec<Limit>, BenchError> {
    let (done, ()) = both_sides(settings, 1, send_memory, |address, _, _| drain(address))?;
    Ok(vec![Limit::of_bytes("L6", "sendfile from memory to one connection, 256 KiB at once", done)])
}

/// The side that stands for the broker: until it is over.
type Server = fn(TcpListener, usize, Arc<AtomicBool>) -> Result<Done, BenchError>;
/// The other side.
type Client<T> = fn(SocketAddr, usize, Arc<AtomicBool>) -> Result<T, BenchError>;

fn both_sides<T: Send + 'static>(
    settings: &LimitSettings,
    connections: usize,
    server: Server,
    client: Client<T>,
) -> Result<(Done, T), BenchError> {
    let wrong = |source| BenchError::io("listen on loopback", source);
    let listener = TcpListener::bind("127.0.0.1:0").map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let (broker_core, load_core) = (settings.broker_core, settings.load_core);
    let (stop, stopped) = mpsc::channel::<()>();
    let (server_end, client_end, timer_end) = (is_over.clone(), is_over.clone(), is_over.clone());
    let seconds = Duration::from_secs_f64(settings.seconds);
    let timer = std::thread::spawn(move || {
        let _ = stopped.recv_timeout(seconds);
        timer_end.store(true, Relaxed);
    });
    let server = std::thread::spawn(move || {
        let _ = cores::pin(&[broker_core]);
        server(listener, connections, server_end)
    });
    let client = std::thread::spawn(move || {
        let _ = cores::pin(&[load_core]);
        client(address, connections, client_end)
    });
    let client = client.join().expect("a measurement does not panic");
    let server = server.join().expect("a measurement does not panic");
    drop(stop);
    timer.join().expect("a timer does not panic");
    Ok((server?, client?))
}

fn accept_all(listener: &TcpListener, connections: usize) -> Result<Vec<TcpStream>, BenchError> {
    let accept = |_| {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    (0..connections)
        .map(accept)
        .collect::<std::io::Result<_>>()
        .map_err(|source| BenchError::io("accept", source))
}

fn connect_all(address: SocketAddr, connections: usize) -> Result<Vec<TcpStream>, BenchError> {
    let connect = |_| {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    (0..connections)
        .map(connect)
        .collect::<std::io::Result<_>>()
        .map_err(|source| BenchError::io("connect", source))
}

fn receive_all(listener: TcpListener, connections: usize, _: Arc<AtomicBool>) -> Result<Done, BenchError> {
    let streams = accept_all(&listener, connections)?;
    let bytes = Arc::new(AtomicU64::new(0));
    let counted = bytes.clone();
    let watch = Stopwatch::start();
    tokio_uring::start(async move {
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                let counted = counted.clone();
                tokio_uring::spawn(async move {
                    let stream = tokio_uring::net::TcpStream::from_std(stream);
                    let mut buffer = vec![0_u8; PIECE_BYTES];
                    loop {
                        let (received, returned) = stream.read(buffer).await;
                        buffer = returned;
                        let Ok(count @ 1..) = received else { return };
                        counted.fetch_add(count as u64, Relaxed);
                    }
                })
            })
            .collect();
        for task in tasks {
            // A task ends with its connection.
            let _ = task.await;
        }
    });
    Ok(watch.done(bytes.load(Relaxed)))
}

fn send_all(address: SocketAddr, connections: usize, is_over: Arc<AtomicBool>) -> Result<(), BenchError> {
    let streams = connect_all(address, connections)?;
    tokio_uring::start(async move {
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                let is_over = is_over.clone();
                tokio_uring::spawn(async move {
                    let stream = tokio_uring::net::TcpStream::from_std(stream);
                    let mut buffer = vec![0x5a_u8; PIECE_BYTES];
                    while !is_over.load(Relaxed) {
                        let (sent, returned) = stream.write_all(buffer).await;
                        buffer = returned;
                        if sent.is_err() {
                            return;
                        }
                    }
                    let _ = stream.shutdown(Shutdown::Write);
                })
            })
            .collect();
        for task in tasks {
            let _ = task.await;
        }
    });
    Ok(())
}

fn answer_all(listener: TcpListener, connections: usize, _: Arc<AtomicBool>) -> Result<Done, BenchError> {
    let streams = accept_all(&listener, connections)?;
    let requests = Arc::new(AtomicU64::new(0));
    let counted = requests.clone();
    let watch = Stopwatch::start();
    tokio_uring::start(async move {
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                let counted = counted.clone();
                tokio_uring::spawn(async move {
                    let stream = tokio_uring::net::TcpStream::from_std(stream);
                    let (mut request, mut answer) = (vec![0_u8; 4096], vec![0_u8; ANSWER_BYTES]);
                    loop {
                        // A request is one segment on loopback, so it comes whole.
                        let (received, returned) = stream.read(request).await;
                        request = returned;
                        let Ok(1..) = received else { return };
                        let (sent, returned) = stream.write_all(answer).await;
                        answer = returned;
                        if sent.is_err() {
                            return;
                        }
                        counted.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        for task in tasks {
            let _ = task.await;
        }
    });
    Ok(watch.done(requests.load(Relaxed)))
}

fn ask_all(
    address: SocketAddr,
    connections: usize,
    is_over: Arc<AtomicBool>,
) -> Result<hdrhistogram::Histogram<u64>, BenchError> {
    let streams = connect_all(address, connections)?;
    let mut all = new_histogram();
    tokio_uring::start(async {
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                let is_over = is_over.clone();
                tokio_uring::spawn(async move {
                    let stream = tokio_uring::net::TcpStream::from_std(stream);
                    let (mut request, mut answer) = (vec![0_u8; REQUEST_BYTES], vec![0_u8; ANSWER_BYTES]);
                    let mut histogram = new_histogram();
                    while !is_over.load(Relaxed) {
                        let began = Moment::now();
                        let (sent, returned) = stream.write_all(request).await;
                        request = returned;
                        let mut received = 0;
                        while received < ANSWER_BYTES && sent.is_ok() {
                            let (result, returned) = stream.read(answer.slice(received..)).await;
                            answer = returned.into_inner();
                            let Ok(count @ 1..) = result else { return histogram };
                            received += count;
                        }
                        histogram.saturating_record(Moment::now().nanos_since(began));
                    }
                    let _ = stream.shutdown(Shutdown::Write);
                    histogram
                })
            })
            .collect();
        for task in tasks {
            if let Ok(histogram) = task.await {
                all.add(&histogram).expect("all have the same bounds");
            }
        }
    });
    Ok(all)
}

fn send_memory(
    listener: TcpListener,
    connections: usize,
    is_over: Arc<AtomicBool>,
) -> Result<Done, BenchError> {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    const MEMORY_BYTES: u64 = 64 << 20;
    let wrong = |errno: rustix::io::Errno| BenchError::io("send from memory", errno.into());
    let memory = memfd_create("flumen-bench", MemfdFlags::CLOEXEC).map_err(wrong)?;
    ftruncate(&memory, MEMORY_BYTES).map_err(wrong)?;
    let file = std::fs::File::from(memory);
    for at in (0..MEMORY_BYTES).step_by(PIECE_BYTES) {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a; PIECE_BYTES], at)
            .map_err(|source| BenchError::io("fill memory", source))?;
    }
    let stream = accept_all(&listener, connections)?.remove(0);
    let watch = Stopwatch::start();
    let (mut at, mut bytes) = (0, 0);
    while !is_over.load(Relaxed) {
        if at >= MEMORY_BYTES {
            at = 0;
        }
        bytes += rustix::fs::sendfile(&stream, &file, Some(&mut at), PIECE_BYTES).map_err(wrong)? as u64;
    }
    Ok(watch.done(bytes))
}

fn drain(address: SocketAddr) -> Result<(), BenchError> {
    let mut stream = connect_all(address, 1)?.remove(0);
    let mut buffer = vec![0_u8; 1 << 20];
    while stream.read(&mut buffer).map_err(|source| BenchError::io("receive", source))? > 0 {}
    Ok(())
}

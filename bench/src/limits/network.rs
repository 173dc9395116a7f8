//! The loopback: L1 receives, L6 sendfile, L7 echoes.

use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio_uring::buf::BoundedBuf;

use super::work::{Done, Stopwatch};
use super::{Limit, LimitSettings};
use crate::clock::Moment;
use crate::error::BenchError;
use crate::load::tally::new_histogram;
use crate::measure::cores;
use crate::result::LatencySummary;
use crate::runtime;

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

fn open_all(
    what: &str,
    connections: usize,
    open: impl Fn() -> std::io::Result<TcpStream>,
) -> Result<Vec<TcpStream>, BenchError> {
    let open = |_| {
        let stream = open()?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let streams = (0..connections).map(open).collect::<std::io::Result<_>>();
    streams.map_err(|source| BenchError::io(what, source))
}

fn accept_all(listener: &TcpListener, connections: usize) -> Result<Vec<TcpStream>, BenchError> {
    open_all("accept", connections, || Ok(listener.accept()?.0))
}

fn connect_all(address: SocketAddr, connections: usize) -> Result<Vec<TcpStream>, BenchError> {
    open_all("connect", connections, || TcpStream::connect(address))
}

/// Does the same with all connections at once, each in a task of the calling thread, until all are done.
fn each_connection<T: 'static, F: Future<Output = T> + 'static>(
    streams: Vec<TcpStream>,
    work: impl Fn(tokio_uring::net::TcpStream) -> F,
) -> Vec<T> {
    runtime::start(async {
        let start = |stream| tokio_uring::spawn(work(tokio_uring::net::TcpStream::from_std(stream)));
        let tasks: Vec<_> = streams.into_iter().map(start).collect();
        let mut done = Vec::with_capacity(tasks.len());
        for task in tasks {
            done.push(task.await.expect("a measurement does not panic"));
        }
        done
    })
}

fn receive_all(listener: TcpListener, connections: usize, _: Arc<AtomicBool>) -> Result<Done, BenchError> {
    let streams = accept_all(&listener, connections)?;
    let watch = Stopwatch::start();
    let bytes = each_connection(streams, async |stream| {
        let mut buffer = vec![0_u8; PIECE_BYTES];
        let mut bytes = 0;
        loop {
            let (received, returned) = stream.read(buffer).await;
            buffer = returned;
            let Ok(count @ 1..) = received else { return bytes };
            bytes += count as u64;
        }
    });
    Ok(watch.done(bytes.iter().sum()))
}

/// Sends as fast as the other side takes it, until it is over or the other side is gone.
pub fn send_all(address: SocketAddr, connections: usize, is_over: Arc<AtomicBool>) -> Result<(), BenchError> {
    each_connection(connect_all(address, connections)?, |stream| {
        let is_over = is_over.clone();
        async move {
            let mut buffer = vec![0x5a_u8; PIECE_BYTES];
            while !is_over.load(Relaxed) {
                let (sent, returned) = stream.write_all(buffer).await;
                buffer = returned;
                if sent.is_err() {
                    return;
                }
            }
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    Ok(())
}

fn answer_all(listener: TcpListener, connections: usize, _: Arc<AtomicBool>) -> Result<Done, BenchError> {
    let streams = accept_all(&listener, connections)?;
    let watch = Stopwatch::start();
    let answered = each_connection(streams, async |stream| {
        let (mut request, mut answer) = (vec![0_u8; 4096], vec![0_u8; ANSWER_BYTES]);
        let mut answered = 0;
        loop {
            // A request is one segment on loopback, so it comes whole.
            let (received, returned) = stream.read(request).await;
            request = returned;
            let Ok(1..) = received else { return answered };
            let (sent, returned) = stream.write_all(answer).await;
            answer = returned;
            if sent.is_err() {
                return answered;
            }
            answered += 1;
        }
    });
    Ok(watch.done(answered.iter().sum()))
}

fn ask_all(
    address: SocketAddr,
    connections: usize,
    is_over: Arc<AtomicBool>,
) -> Result<Histogram<u64>, BenchError> {
    let streams = connect_all(address, connections)?;
    let mut all = new_histogram();
    for one in each_connection(streams, |stream| ask(stream, is_over.clone())) {
        all.add(&one).expect("all have the same bounds");
    }
    Ok(all)
}

async fn ask(stream: tokio_uring::net::TcpStream, is_over: Arc<AtomicBool>) -> Histogram<u64> {
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

//! What a runtime costs per request: a 64-byte echo on the raw ring, tokio-uring and glommio, by one connection
//! and by 64; and from which size on `sendfile` is cheaper than a copy.
//!
//! `cargo bench -p flumen-bench --bench runtime`. The server is pinned to the first core, the client to the
//! last. The clients are the same blocking sockets for all, so differences are the servers'.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use flumen_ring::{CHUNK_BYTES, ChunkHelpers, ChunkPool, Listener, Reactor, ReactorConfig, Socket, topology};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use tokio_uring::buf::BoundedBuf;

const REQUEST_BYTES: usize = 64;
const BUFFER_BYTES: usize = 4096;

/// Starts a server on a thread of the first core; it serves until the process ends.
fn start(name: &str, serve: impl FnOnce(mpsc::Sender<SocketAddr>) + Send + 'static) -> SocketAddr {
    let (tell, address) = mpsc::channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            pin(topology::allowed_cores().first());
            serve(tell);
        })
        .expect("a thread");
    address.recv().expect("the server tells where it listens")
}

fn pin(core: Option<&usize>) {
    if let Some(core) = core {
        topology::pin_current(*core).expect("an allowed core");
    }
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn serve_ring(tell: mpsc::Sender<SocketAddr>) {
    let reactor = Reactor::new(ReactorConfig::default()).expect("a reactor");
    let ring = reactor.ring();
    reactor.run(async {
        let listener = Listener::bind(&ring, free_address()).expect("bound");
        tell.send(listener.local_address().expect("an address")).expect("somebody listens");
        while let Ok((descriptor, _)) = listener.accept().await {
            ring.spawn(echo_ring(Socket::from_fd(&ring, descriptor)));
        }
    });
}

async fn echo_ring(socket: Socket) {
    socket.set_nodelay(true).expect("set");
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        buffer.clear();
        let (received, returned) = socket.recv(buffer, 0..BUFFER_BYTES).await;
        let (Ok(1..), bytes) = (received, returned) else { return };
        let reply = bytes.clone();
        buffer = bytes;
        if socket.send(vec![reply.into()]).await.is_err() {
            return;
        }
    }
}

fn serve_tokio_uring(tell: mpsc::Sender<SocketAddr>) {
    tokio_uring::start(async {
        let listener = tokio_uring::net::TcpListener::bind(free_address()).expect("bound");
        tell.send(listener.local_addr().expect("an address")).expect("somebody listens");
        while let Ok((stream, _)) = listener.accept().await {
            tokio_uring::spawn(async move {
                stream.set_nodelay(true).expect("set");
                let mut buffer = vec![0_u8; BUFFER_BYTES];
                loop {
                    let (received, returned) = stream.read(buffer).await;
                    let Ok(length @ 1..) = received else { return };
                    let (sent, slice) = stream.write_all(returned.slice(..length)).await;
                    buffer = slice.into_inner();
                    if sent.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn serve_glommio(tell: mpsc::Sender<SocketAddr>) {
    let executor = glommio::LocalExecutorBuilder::default().make().expect("an executor");
    executor.run(async {
        let listener = glommio::net::TcpListener::bind(free_address()).expect("bound");
        tell.send(listener.local_addr().expect("an address")).expect("somebody listens");
        while let Ok(mut stream) = listener.accept().await {
            glommio::spawn_local(async move {
                stream.set_nodelay(true).expect("set");
                let mut buffer = vec![0_u8; BUFFER_BYTES];
                loop {
                    let Ok(length @ 1..) = stream.read(&mut buffer).await else { return };
                    if stream.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            })
            .detach();
        }
    });
}

/// A blocking thread per connection would measure the scheduler; an unadorned loop measures the system calls.
fn serve_plain(tell: mpsc::Sender<SocketAddr>) {
    let listener = TcpListener::bind(free_address()).expect("bound");
    tell.send(listener.local_addr().expect("an address")).expect("somebody listens");
    for stream in listener.incoming() {
        let mut stream: TcpStream = stream.expect("accepted");
        stream.set_nodelay(true).expect("set");
        let mut buffer = [0_u8; BUFFER_BYTES];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
    }
}

fn connect(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let connect = || {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_nodelay(true).expect("set");
        stream
    };
    (0..count).map(|_| connect()).collect()
}

/// One request on every connection, then every answer.
fn round(streams: &mut [TcpStream]) {
    let request = [7_u8; REQUEST_BYTES];
    for stream in &mut *streams {
        stream.write_all(&request).expect("sent");
    }
    for stream in streams {
        let mut reply = [0_u8; REQUEST_BYTES];
        stream.read_exact(&mut reply).expect("received");
        black_box(reply);
    }
}

fn echo(criterion: &mut Criterion) {
    let ring = start("ring", serve_ring);
    let tokio_uring = start("tokio-uring", serve_tokio_uring);
    let glommio = start("glommio", serve_glommio);
    let plain = start("plain", serve_plain);
    pin(topology::allowed_cores().last());
    for connections in [1, 64] {
        let mut group = criterion.benchmark_group(format!("echo 64 B on {connections}"));
        group.throughput(Throughput::Elements(connections as u64));
        let mut servers = vec![("ring", ring), ("tokio-uring", tokio_uring), ("glommio", glommio)];
        if connections == 1 {
            servers.push(("blocking system calls", plain));
        }
        for (name, address) in servers {
            let mut streams = connect(address, connections);
            group.bench_function(name, |bencher| bencher.iter(|| round(&mut streams)));
        }
        group.finish();
    }
}

/// Answers of many sizes to a peer that throws them away, by copy and by `sendfile`. The time is one thread's,
/// which also pays for the loopback's receiving half.
fn answers(criterion: &mut Criterion) {
    let reactor = Reactor::new(ReactorConfig::default()).expect("a reactor");
    let ring = reactor.ring();
    let helpers = ChunkHelpers::start().expect("threads");
    let mut pool = ChunkPool::memfd(64, &helpers).expect("a pool");
    if !pool.stats().huge {
        eprintln!("no huge pages here: nothing is sent by sendfile");
        return;
    }
    let mut region = pool.take().expect("the first chunk is ready").into_region();
    let slice = region.append_with(CHUNK_BYTES, |bytes| bytes.fill(0x5a));
    let sink = TcpListener::bind(free_address()).expect("bound");
    let address = sink.local_addr().expect("an address");
    thread::spawn(move || {
        pin(topology::allowed_cores().first());
        let (mut stream, _) = sink.accept().expect("accepted");
        let mut buffer = vec![0; 1 << 20];
        while let Ok(1..) = stream.read(&mut buffer) {}
    });
    let socket = reactor.run(Socket::connect(&ring, address)).expect("connected");
    let mut group = criterion.benchmark_group("answer");
    for kibibytes in [1, 16, 32, 64, 256, 1024] {
        let part = slice.slice(0..kibibytes << 10);
        group.throughput(Throughput::Bytes(part.len() as u64));
        for (name, sendfile_bytes_min) in [("copy", usize::MAX), ("sendfile", 0)] {
            group.bench_function(format!("{kibibytes} KiB by {name}"), |bencher| {
                bencher.iter(|| {
                    let sent = reactor.run(socket.transmit(vec![part.clone().into()], sendfile_bytes_min));
                    sent.expect("the sink reads");
                });
            });
        }
    }
    group.finish();
}

/// How long a core waits for memory at worst: a chunk that the helper thread has still to prepare.
fn chunks(criterion: &mut Criterion) {
    let helpers = ChunkHelpers::start().expect("threads");
    criterion.bench_function("a fresh chunk of 2 MiB", |bencher| {
        bencher.iter_batched(
            || ChunkPool::memfd(9, &helpers).expect("a pool"),
            |mut pool| {
                let mut taken = Vec::new();
                while taken.len() < 9 {
                    taken.extend(pool.take());
                    pool.hurry();
                    std::hint::spin_loop();
                }
                taken
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, echo, answers, chunks);
criterion_main!(benches);

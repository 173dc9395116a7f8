//! A message from one core to another: through the queue alone, and there and back between two threads that
//! sleep when they have nothing to do.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use flumen_ring::{Reactor, ReactorConfig, mailbox};

const CAPACITY: usize = 1024;

fn queue(criterion: &mut Criterion) {
    let reactor = Reactor::new(ReactorConfig::default()).expect("io_uring is allowed here");
    let ring = reactor.ring();
    let (sender, receiver) = mailbox::<u64>(CAPACITY);
    let (outbox, inbox) = (sender.attach(&ring), receiver.attach(&ring));
    criterion.bench_function("mailbox: send and receive, one thread", |bencher| {
        bencher.iter(|| {
            let _ = outbox.try_send(black_box(7));
            inbox.try_recv()
        });
    });
}

fn round_trip(criterion: &mut Criterion) {
    criterion.bench_function("mailbox: there and back, two threads", |bencher| {
        bencher.iter_custom(there_and_back);
    });
}

/// How long `rounds` messages take to go to another reactor's thread and come back.
fn there_and_back(rounds: u64) -> Duration {
    let (request_sender, request_receiver) = mailbox::<u64>(CAPACITY);
    let (reply_sender, reply_receiver) = mailbox::<u64>(CAPACITY);
    let echo = std::thread::spawn(move || {
        let reactor = Reactor::new(ReactorConfig::default()).expect("io_uring is allowed here");
        let ring = reactor.ring();
        let (inbox, outbox) = (request_receiver.attach(&ring), reply_sender.attach(&ring));
        reactor.run(async move {
            while let Some(message) = inbox.recv().await {
                if outbox.send(message).await.is_err() {
                    break;
                }
            }
        });
    });
    let reactor = Reactor::new(ReactorConfig::default()).expect("io_uring is allowed here");
    let ring = reactor.ring();
    let (outbox, inbox) = (request_sender.attach(&ring), reply_receiver.attach(&ring));
    let elapsed = reactor.run(async move {
        // The first one waits until the other thread is there.
        let _ = outbox.send(0).await;
        inbox.recv().await;
        let started = Instant::now();
        for round in 0..rounds {
            let _ = outbox.send(round).await;
            black_box(inbox.recv().await);
        }
        started.elapsed()
    });
    echo.join().expect("the echo ends when its mailbox is closed");
    elapsed
}

criterion_group!(benches, queue, round_trip);
criterion_main!(benches);

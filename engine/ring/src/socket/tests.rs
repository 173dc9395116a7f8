use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::{Listener, Reactor, ReactorConfig, Region, SendPiece};

pub(super) fn reactor() -> Reactor {
    Reactor::new(ReactorConfig { entries: 64 }).expect("a reactor")
}

/// Two connected sockets of one ring.
pub(super) async fn pair(ring: &Ring) -> (Socket, Socket) {
    let listener = Listener::bind(ring, "127.0.0.1:0".parse().expect("an address")).expect("bound");
    let address = listener.local_address().expect("an address");
    let client = ring.spawn_with({
        let ring = ring.clone();
        async move { Socket::connect(&ring, address).await }
    });
    let (descriptor, peer) = listener.accept().await.expect("accepted");
    let client = client.await.expect("connected");
    assert_eq!(peer, client.local_address().expect("an address"));
    (client, Socket::from_fd(ring, descriptor))
}

#[test]
fn pieces_arrive_in_order_whatever_their_kind() {
    let reactor = reactor();
    let ring = reactor.ring();
    reactor.run(async {
        let (client, server) = pair(&ring).await;
        let mut region = Region::on_heap(1 << 20);
        let large = region.append_with(1 << 20, |bytes| {
            bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
        });
        let mut pieces: Vec<SendPiece> = vec![Bytes::from_static(b"head").into(), Vec::new().into()];
        pieces.push(large.clone().into());
        // More pieces than one system call takes.
        pieces.extend((0..3000).map(|number: usize| SendPiece::from(vec![number as u8; 3])));
        let expected: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let length = expected.len();
        let sending = ring.spawn_with(async move { server.send(pieces).await });
        let (result, received) = client.recv_exact(Vec::with_capacity(length), 0..length).await;
        result.expect("received");
        sending.await.expect("sent");
        assert!(received == expected);
    });
}

#[test]
fn many_connections_echo() {
    let reactor = reactor();
    let ring = reactor.ring();
    reactor.run(async {
        let listener = Listener::bind(&ring, "127.0.0.1:0".parse().expect("an address")).expect("bound");
        let address = listener.local_address().expect("an address");
        let server = ring.clone();
        ring.spawn(async move {
            loop {
                let (descriptor, _) = listener.accept().await.expect("accepted");
                let socket = Socket::from_fd(&server, descriptor);
                server.spawn(async move {
                    let mut buffer = Vec::with_capacity(64);
                    loop {
                        let (received, returned) = socket.recv(buffer, 0..64).await;
                        buffer = returned;
                        let Ok(length @ 1..) = received else { return };
                        let reply = vec![Bytes::copy_from_slice(&buffer[..length]).into()];
                        if socket.send(reply).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let clients: Vec<_> = (0..100u8)
            .map(|number| {
                let ring = ring.clone();
                ring.clone().spawn_with(async move {
                    let socket = Socket::connect(&ring, address).await.expect("connected");
                    socket.set_nodelay(true).expect("set");
                    for round in 0..20u8 {
                        let request = vec![number.wrapping_add(round); 64];
                        socket.send(vec![request.clone().into()]).await.expect("sent");
                        let (result, reply) = socket.recv_exact(Vec::with_capacity(64), 0..64).await;
                        result.expect("received");
                        assert_eq!(reply, request);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await;
        }
    });
}

#[test]
fn closing_ends_what_waits() {
    let reactor = reactor();
    let ring = reactor.ring();
    reactor.run(async {
        let (client, server) = pair(&ring).await;
        let waiting = server.clone();
        let receiving = ring.spawn_with(async move { waiting.recv(Vec::with_capacity(10), 0..10).await.0 });
        ring.yield_now().await;
        server.close();
        assert!(!matches!(receiving.await, Ok(1..)));
        let (end, _) = client.recv(Vec::with_capacity(10), 0..10).await;
        assert_eq!(end.expect("an orderly end"), 0);
        assert!(server.send(vec![vec![1].into()]).await.is_err());
    });
}

#[test]
fn a_dropped_receive_leaves_the_stream_whole() {
    let reactor = reactor();
    let ring = reactor.ring();
    reactor.run(async {
        let (client, server) = pair(&ring).await;
        let nothing = ring.timeout(Duration::from_millis(5), client.recv(Vec::with_capacity(8), 0..8)).await;
        assert!(nothing.is_none());
        // The cancellation is submitted before this, and operations start in the order of submission.
        server.send(vec![vec![9; 8].into()]).await.expect("sent");
        let (result, bytes) = client.recv_exact(Vec::with_capacity(8), 0..8).await;
        result.expect("received");
        assert_eq!(bytes, [9; 8]);
    });
}

#[test]
fn a_write_dropped_half_way_ends_the_connection() {
    let reactor = reactor();
    let ring = reactor.ring();
    reactor.run(async {
        let (client, server) = pair(&ring).await;
        let large = vec![SendPiece::from(vec![1_u8; 64 << 20])];
        // Nobody reads: it cannot end.
        assert!(ring.timeout(Duration::from_millis(5), server.send(large)).await.is_none());
        assert!(server.send(vec![vec![2].into()]).await.is_err());
        // The peer sees a part, then the end.
        let mut buffer = Vec::with_capacity(1 << 20);
        loop {
            let (received, returned) = client.recv(buffer, 0..1 << 20).await;
            buffer = returned;
            match received {
                Ok(0) | Err(_) => break,
                Ok(length) => assert!(buffer[..length].iter().all(|byte| *byte == 1)),
            }
        }
    });
}

#[test]
fn the_end_of_the_reactor_frees_what_is_under_way() {
    let reactor = reactor();
    let ring = reactor.ring();
    let (client, server) = reactor.run(pair(&ring));
    ring.spawn(async move {
        let _ = client.recv(vec![0; 4096], 0..4096).await;
    });
    ring.spawn(async move {
        let _ = server.readable().await;
    });
    reactor.run(ring.yield_now());
    let started = Instant::now();
    drop(ring);
    drop(reactor);
    assert!(started.elapsed() < Duration::from_secs(5), "the kernel lets go at once");
}

//! Accepting connections: once, on core 0, and handing each to the core with the fewest.
//!
//! The kernel would spread them over the cores' own listeners worse than 2 : 1. Who is over a bound is let in
//! and closed at once, as Kafka does.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use flumen_engine::CoreId;
use flumen_ring::{Listener, Ring, Socket};

use crate::config::{ListenerConfig, NetworkConfig};
use crate::connection;
use crate::shard::Shard;

/// How long nothing is accepted when there are no descriptors left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How often a start looks whether an address that is in use is free, and how long it waits in between: a second in all.
const CHECKS_MAX: usize = 21;
const CHECK_PAUSE: Duration = Duration::from_millis(50);

/// Addresses that are counted before those without a connection are forgotten.
const ADDRESSES_KEPT: usize = 1024;

/// A listener that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {name}://{host}:{port}: {why}")]
pub struct BindError {
    name: String,
    host: String,
    port: u16,
    why: String,
    is_in_use: bool,
}

/// Binds every address of a listener. Returns it with the port that it got where any was asked for.
pub fn bind(shard: &Shard, mut config: ListenerConfig) -> Result<(Vec<Listener>, ListenerConfig), BindError> {
    let listeners = at_each_address(&config, |address| Listener::bind(shard.ring(), address))?;
    let local = listeners.first().map(Listener::local_address).transpose();
    if let Ok(Some(local)) = local {
        if config.advertised_port == 0 {
            config.advertised_port = local.port();
        }
        config.port = local.port();
    }
    Ok((listeners, config))
}

/// Whether every address of the listeners is to be had: before a start changes anything. What was killed a moment ago may
/// still have them, until the kernel has taken its rings apart.
pub async fn check(ring: &Ring, listeners: &[ListenerConfig]) -> Result<(), BindError> {
    let mut looks = 0;
    loop {
        let checked =
            listeners.iter().try_for_each(|config| at_each_address(config, Listener::check).map(drop));
        looks += 1;
        match checked {
            Err(error) if error.is_in_use && looks < CHECKS_MAX => ring.sleep(CHECK_PAUSE).await,
            checked => return checked,
        }
    }
}

fn at_each_address<T>(
    config: &ListenerConfig,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, BindError> {
    let failed = |error: io::Error| BindError {
        name: config.name.clone(),
        host: config.host.clone(),
        port: config.port,
        why: why(&error),
        is_in_use: error.kind() == io::ErrorKind::AddrInUse,
    };
    let mut bound = Vec::new();
    for address in addresses(config).map_err(failed)? {
        bound.push(match bind(address) {
            // No IPv6 on this machine: the wildcard is IPv4's then.
            Err(error) if config.host.is_empty() && address.is_ipv6() && is_no_family(&error) => {
                bind(SocketAddr::from(([0, 0, 0, 0], config.port))).map_err(failed)?
            }
            bound => bound.map_err(failed)?,
        });
    }
    Ok(bound)
}

fn addresses(config: &ListenerConfig) -> io::Result<Vec<SocketAddr>> {
    if config.host.is_empty() {
        return Ok(vec![SocketAddr::from(([0_u16; 8], config.port))]);
    }
    let mut addresses: Vec<SocketAddr> = (config.host.as_str(), config.port).to_socket_addrs()?.collect();
    addresses.sort();
    addresses.dedup();
    if config.port == 0 {
        // Each would get another port.
        addresses.truncate(1);
    }
    Ok(addresses)
}

fn is_no_family(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use; is another broker running? Choose another port in listeners".into()
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address".into(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE".into(),
        _ => error.to_string(),
    }
}

/// Counts connections: all of them, each core's, each address's. A connection holds its ticket while it
/// lives, on whatever core.
pub struct Admission {
    all: Arc<()>,
    cores: Vec<Arc<()>>,
    addresses: HashMap<IpAddr, Arc<()>>,
    limits: Limits,
}

struct Limits {
    all: usize,
    per_address: usize,
    overrides: HashMap<IpAddr, usize>,
}

/// A connection's share of the counts.
#[derive(Debug)]
pub struct Ticket {
    _all: Arc<()>,
    _core: Arc<()>,
    _address: Arc<()>,
}

impl Admission {
    /// Nobody yet.
    pub fn new(cores: usize, config: &NetworkConfig) -> Self {
        let overrides = config.connections_per_address.iter().map(|(address, count)| (*address, *count));
        Self {
            all: Arc::default(),
            cores: (0..cores).map(|_| Arc::default()).collect(),
            addresses: HashMap::new(),
            limits: Limits {
                all: config.connections_max,
                per_address: config.connections_per_address_max,
                overrides: overrides.collect(),
            },
        }
    }

    /// Lets a connection in and says on which core it lives; `None` when a bound is reached.
    pub fn admit(&mut self, peer: IpAddr) -> Option<(CoreId, Ticket)> {
        let peer = peer.to_canonical();
        if count(&self.all) >= self.limits.all {
            return None;
        }
        if self.addresses.len() >= ADDRESSES_KEPT {
            self.addresses.retain(|_, connections| count(connections) > 0);
        }
        let address = self.addresses.entry(peer).or_default();
        if count(address) >= *self.limits.overrides.get(&peer).unwrap_or(&self.limits.per_address) {
            return None;
        }
        let (core, connections) =
            (0..).map(CoreId).zip(&self.cores).min_by_key(|(_, connections)| count(connections))?;
        let ticket = Ticket { _all: self.all.clone(), _core: connections.clone(), _address: address.clone() };
        Some((core, ticket))
    }
}

/// How many tickets hold a share of this.
fn count(shared: &Arc<()>) -> usize {
    Arc::strong_count(shared) - 1
}

/// Accepts until the listener is dropped. Runs on core 0.
pub async fn accept(
    shard: Rc<Shard>,
    listener: Listener,
    config: Arc<ListenerConfig>,
    admission: Rc<std::cell::RefCell<Admission>>,
) {
    loop {
        let (descriptor, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = %config.name, %error, "cannot accept a connection");
                shard.ring().sleep(EXHAUSTED_PAUSE).await;
                continue;
            }
        };
        let admitted = admission.borrow_mut().admit(peer.ip());
        let Some((core, ticket)) = admitted else {
            tracing::info!(%peer, "closing a connection: max.connections is reached");
            continue;
        };
        let config = config.clone();
        shard.call(core, move |shard| async move { adopt(&shard, descriptor, peer, config, ticket) }).await;
    }
}

/// Serves a connection on this core.
fn adopt(
    shard: &Rc<Shard>,
    descriptor: OwnedFd,
    peer: SocketAddr,
    config: Arc<ListenerConfig>,
    ticket: Ticket,
) {
    let socket = Socket::from_fd(shard.ring(), descriptor);
    let serving = connection::serve(shard.clone(), socket, peer, config);
    shard.ring().spawn(async move {
        serving.await;
        drop(ticket);
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn network(all: usize, per_address: usize) -> NetworkConfig {
        NetworkConfig {
            listeners: Vec::new(),
            request_bytes_max: 1 << 20,
            request_memory_bytes: None,
            idle_max: None,
            connections_max: all,
            connections_per_address_max: per_address,
            connections_per_address: BTreeMap::from([(IpAddr::from([10, 0, 0, 9]), 0)]),
        }
    }

    #[test]
    fn connections_spread_evenly_and_come_back() {
        let mut admission = Admission::new(3, &network(100, 100));
        let peer = IpAddr::from([10, 0, 0, 1]);
        let tickets: Vec<_> = (0..9).map(|_| admission.admit(peer).expect("within the bounds")).collect();
        for core in 0..3 {
            assert_eq!(tickets.iter().filter(|(on, _)| *on == CoreId(core)).count(), 3);
        }
        drop(tickets);
        assert_eq!(count(&admission.all), 0);
    }

    #[test]
    fn bounds_hold_for_all_and_for_each_address() {
        let mut admission = Admission::new(1, &network(3, 2));
        let (first, second) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let _held = [admission.admit(first).expect("one"), admission.admit(first).expect("two")];
        assert!(admission.admit(first).is_none(), "two from this address");
        assert!(admission.admit(IpAddr::from([10, 0, 0, 9])).is_none(), "its own bound is 0");
        let last = admission.admit(second).expect("three of three");
        assert!(admission.admit(second).is_none());
        drop(last);
        assert!(admission.admit(second).is_some());
    }
}

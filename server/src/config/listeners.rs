//! `listeners`, `advertised.listeners` and what belongs to them: where to bind, and what clients are told.
//!
//! Kafka: `AbstractKafkaConfig.listenerListToEndPoints`, and the part of `KafkaConfig.validateValues` about listeners.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::key::{InvalidValue, elements};
use super::raw::Settings;

const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
const CONTROLLERS: &str = "controller.listener.names";
const PROTOCOLS: &str = "listener.security.protocol.map";
const BETWEEN_BROKERS: &str = "inter.broker.listener.name";

/// The protocols that a listener can be mapped to.
const PROTOCOL_NAMES: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
/// The only one that is served, and the name of the listener between brokers where none is set.
const PLAINTEXT: &str = "PLAINTEXT";

/// One listener: where it is bound and what clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its name; Kafka: the part before `://`.
    pub name: String,
    /// The host to bind; empty for every interface.
    pub host: String,
    /// The port to bind; 0 for any free one.
    pub port: u16,
    /// The host that clients are told. Never empty, never a wildcard.
    pub advertised_host: String,
    /// The port that clients are told; 0 until a free one is bound.
    pub advertised_port: u16,
}

/// The listeners to bind: all but those of controllers, each with what is advertised for it.
pub(super) fn resolve(settings: &Settings, host_name: &str) -> Result<Vec<ListenerConfig>, InvalidValue> {
    let given = Given::read(settings)?;
    let brokers = given.bound.iter().filter(|endpoint| !given.is_a_controllers(&endpoint.name));
    let listeners: Vec<ListenerConfig> =
        brokers.map(|endpoint| given.listener(endpoint, host_name)).collect::<Result<_, _>>()?;
    if listeners.is_empty() {
        return Err(settings.invalid(LISTENERS, "at least one listener that is not a controller's"));
    }
    let between = settings.explicit(BETWEEN_BROKERS);
    if between.is_some_and(|name| !listeners.iter().any(|one| one.name.eq_ignore_ascii_case(name))) {
        return Err(settings.invalid(BETWEEN_BROKERS, "the name of one of listeners"));
    }
    Ok(listeners)
}

/// Every host that this node's listeners name, those of controllers included.
pub(super) fn hosts(settings: &Settings) -> Result<Vec<String>, InvalidValue> {
    let given = Given::read(settings)?;
    Ok(given.bound.into_iter().chain(given.advertised).map(|endpoint| endpoint.host).collect())
}

/// `NAME://host:port`.
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

/// What was set about listeners, each part sound by itself.
struct Given<'a> {
    settings: &'a Settings,
    bound: Vec<Endpoint>,
    advertised: Vec<Endpoint>,
    /// Names of controllers' listeners.
    controllers: Vec<String>,
    /// Protocols by name of listener.
    protocols: BTreeMap<String, String>,
}

impl<'a> Given<'a> {
    fn read(settings: &'a Settings) -> Result<Self, InvalidValue> {
        let controllers = elements(settings.value(CONTROLLERS).unwrap_or_default());
        let given = Self {
            settings,
            bound: endpoints(settings, LISTENERS)?,
            advertised: endpoints(settings, ADVERTISED)?,
            controllers: controllers.map(str::to_ascii_uppercase).collect(),
            protocols: protocols(settings)?,
        };
        names_differ(settings, LISTENERS, &given.bound)?;
        names_differ(settings, ADVERTISED, &given.advertised)?;
        ports_differ(settings, &given.bound)?;
        given.advertised_are_bound()?;
        given.controllers_are_apart()?;
        Ok(given)
    }

    fn is_a_controllers(&self, name: &str) -> bool {
        self.controllers.iter().any(|controller| controller == name)
    }

    fn advertised_are_bound(&self) -> Result<(), InvalidValue> {
        let is_bound = |name: &str| self.bound.iter().any(|listener| listener.name == name);
        match self.advertised.iter().find(|told| !self.is_a_controllers(&told.name) && !is_bound(&told.name))
        {
            Some(told) => {
                Err(self.settings.invalid(ADVERTISED, format!("{} is not in listeners", told.name)))
            }
            None => Ok(()),
        }
    }

    /// The listener between brokers cannot be one of controllers.
    fn controllers_are_apart(&self) -> Result<(), InvalidValue> {
        let between = self.settings.explicit(BETWEEN_BROKERS).unwrap_or(PLAINTEXT).to_ascii_uppercase();
        if !self.is_a_controllers(&between) {
            return Ok(());
        }
        let expected = format!(
            "{between} is the listener of brokers and clients; give controllers one of another name, such as \
             CONTROLLER"
        );
        Err(self.settings.invalid(CONTROLLERS, expected))
    }

    fn listener(&self, endpoint: &Endpoint, host_name: &str) -> Result<ListenerConfig, InvalidValue> {
        self.check_protocol(&endpoint.name)?;
        let told = self.advertised.iter().find(|told| told.name == endpoint.name);
        let Endpoint { host, port, .. } = told.unwrap_or(endpoint);
        let advertised_host = if host.is_empty() { host_name.to_string() } else { host.clone() };
        if advertised_host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
            let (key, what) = match told {
                Some(_) => (ADVERTISED, "not a wildcard"),
                None => (LISTENERS, "set advertised.listeners too: no client can connect to a wildcard"),
            };
            return Err(self.settings.invalid(key, format!("an address that clients can reach, {what}")));
        }
        Ok(ListenerConfig {
            name: endpoint.name.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
            advertised_host,
            advertised_port: *port,
        })
    }

    /// Only plain text is served; the names of the protocols themselves need no entry.
    fn check_protocol(&self, name: &str) -> Result<(), InvalidValue> {
        let expected = match self.protocols.get(name).map(String::as_str) {
            Some(PLAINTEXT) => return Ok(()),
            Some(other) => format!("{name} is {other}: only PLAINTEXT is served"),
            None if name == PLAINTEXT => return Ok(()),
            None => format!("{name} is not in listener.security.protocol.map"),
        };
        Err(self.settings.invalid(LISTENERS, expected))
    }
}

fn endpoints(settings: &Settings, key: &str) -> Result<Vec<Endpoint>, InvalidValue> {
    elements(settings.value(key).unwrap_or_default())
        .map(|element| {
            endpoint(element).ok_or_else(|| InvalidValue {
                key: key.to_string(),
                shown: element.to_string(),
                expected: "must be NAME://host:port, with a port of 0 to 65535".into(),
            })
        })
        .collect()
}

fn endpoint(text: &str) -> Option<Endpoint> {
    let (name, address) = text.split_once("://")?;
    let (host, port) = host_and_port(address)?;
    let sound = !name.is_empty() && is_made_of(name, b"_-.");
    sound.then(|| Endpoint { name: name.to_ascii_uppercase(), host: host.to_string(), port })
}

/// `host:port`, in which an IPv6 address has brackets, without them.
pub(super) fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let port = port.parse().ok()?;
    is_made_of(host, b"-%._:").then_some((host, port))
}

fn is_made_of(text: &str, signs: &[u8]) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || signs.contains(&byte))
}

fn protocols(settings: &Settings) -> Result<BTreeMap<String, String>, InvalidValue> {
    elements(settings.value(PROTOCOLS).unwrap_or_default())
        .map(|entry| {
            let (name, protocol) = entry.rsplit_once(':').ok_or_else(|| {
                settings
                    .invalid(PROTOCOLS, format!("{entry} must be NAME:PROTOCOL, such as INSIDE:PLAINTEXT"))
            })?;
            let protocol = protocol.trim().to_ascii_uppercase();
            if !PROTOCOL_NAMES.contains(&protocol.as_str()) {
                let expected = format!("{protocol} is none of the protocols {}", PROTOCOL_NAMES.join(", "));
                return Err(settings.invalid(PROTOCOLS, expected));
            }
            Ok((name.trim().to_ascii_uppercase(), protocol))
        })
        .collect()
}

fn names_differ(settings: &Settings, key: &str, endpoints: &[Endpoint]) -> Result<(), InvalidValue> {
    for (index, endpoint) in endpoints.iter().enumerate() {
        if endpoints[..index].iter().any(|other| other.name == endpoint.name) {
            let expected = format!("{} is there twice: each name once", endpoint.name);
            return Err(settings.invalid(key, expected));
        }
    }
    Ok(())
}

/// Controllers' listeners count, too, although they are not bound: a file that Kafka refuses is refused.
fn ports_differ(settings: &Settings, bound: &[Endpoint]) -> Result<(), InvalidValue> {
    for (index, endpoint) in bound.iter().enumerate().filter(|(_, endpoint)| endpoint.port != 0) {
        let mut same = bound[..index].iter().filter(|other| other.port == endpoint.port);
        let is_of_another_family = |other: &Endpoint| {
            let (one, other) = (endpoint.host.parse::<IpAddr>(), other.host.parse::<IpAddr>());
            one.is_ok_and(|one| other.is_ok_and(|other| one.is_ipv4() != other.is_ipv4()))
        };
        if same.next().is_some_and(|other| !is_of_another_family(other)) || same.next().is_some() {
            let expected = format!(
                "port {} is there twice: each port once, or for one IPv4 and one IPv6 address",
                endpoint.port
            );
            return Err(settings.invalid(LISTENERS, expected));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(given: &[(&str, &str)]) -> Result<Vec<ListenerConfig>, String> {
        let given: Vec<(String, String)> =
            given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let settings = Settings::gather(None, [], &given).map_err(|error| error.to_string())?;
        resolve(&settings, "box.example").map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_listens_everywhere_and_tells_the_host_name() {
        let listeners = resolved(&[]).expect("the default is sound");
        assert_eq!(listeners.len(), 1);
        assert_eq!((listeners[0].host.as_str(), listeners[0].port), ("", 9092));
        assert_eq!(listeners[0].advertised_host, "box.example");
    }

    #[test]
    fn each_listener_has_its_own_advertised_address() {
        let listeners = resolved(&[
            ("listeners", "INSIDE://0.0.0.0:9092, OUTSIDE://[::]:9093,CONTROLLER://:9094"),
            ("advertised.listeners", "INSIDE://kafka:9092,OUTSIDE://[2001:db8::1]:19093"),
            ("listener.security.protocol.map", "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ])
        .expect("a common setup");
        let told: Vec<_> =
            listeners.iter().map(|one| (one.advertised_host.as_str(), one.advertised_port)).collect();
        assert_eq!(told, [("kafka", 9092), ("2001:db8::1", 19093)]);
        assert_eq!(listeners[1].host, "::");
    }

    #[test]
    fn what_clients_cannot_reach_or_we_cannot_serve_is_refused() {
        let error = |given| resolved(given).expect_err("refused");
        assert!(error(&[("listeners", "PLAINTEXT://0.0.0.0:9092")]).contains("advertised.listeners"));
        assert!(error(&[("listeners", "SSL://:9092")]).contains("only PLAINTEXT"));
        assert!(error(&[("listeners", "INSIDE://:9092")]).contains("protocol.map"));
        assert!(error(&[("listeners", "PLAINTEXT://:99999")]).contains("65535"));
        assert!(error(&[("listeners", "9092")]).contains("NAME://"));
        assert!(error(&[("listeners", "PLAINTEXT://:1,PLAINTEXT://:2")]).contains("once"));
        assert!(error(&[("listeners", "CONTROLLER://:9093")]).contains("at least one"));
        assert!(error(&[("inter.broker.listener.name", "X")]).contains("one of listeners"));
    }

    /// One setting beside two listeners, of which one is a controller's.
    fn beside_a_controller(key: &str, value: &str) -> Result<Vec<ListenerConfig>, String> {
        resolved(&[
            ("listeners", "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"),
            ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL"),
            (key, value),
        ])
    }

    /// Asked of Apache Kafka 4.3.1.
    #[test]
    fn what_contradicts_itself_is_refused_as_in_kafka() {
        for (key, value, says) in [
            ("advertised.listeners", "PLAINTEXT://a:9092,PLAINTEXT://b:9092", "PLAINTEXT is there twice"),
            (
                "advertised.listeners",
                "PLAINTEXT://a:1,CONTROLLER://a:2,CONTROLLER://a:3",
                "CONTROLLER is there twice",
            ),
            ("advertised.listeners", "PLAINTEXT://ho st:9092", "NAME://host:port"),
            ("advertised.listeners", "PLAINTEXT://höst:9092", "NAME://host:port"),
            ("listener.security.protocol.map", "PLAINTEXT=PLAINTEXT", "must be NAME:PROTOCOL"),
            ("listener.security.protocol.map", "PLAINTEXT:FOO", "FOO is none of the protocols"),
            (
                "listeners",
                "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9092",
                "port 9092 is there twice",
            ),
            ("listeners", "PLAINTEXT://:9092,CONTROLLER://[::1]:9092", "port 9092 is there twice"),
            ("controller.listener.names", "PLAINTEXT", "give controllers one of another name"),
        ] {
            let error = beside_a_controller(key, value).expect_err(value);
            assert!(error.starts_with(&format!("{key}=")) && error.contains(says), "{value}: {error}");
        }
    }

    /// Asked of Apache Kafka 4.3.1.
    #[test]
    fn what_kafka_takes_is_taken() {
        for (key, value) in [
            ("listeners", "PLAINTEXT://127.0.0.1:9092,CONTROLLER://[::1]:9092"),
            ("listeners", "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"),
            ("advertised.listeners", "PLAINTEXT://ho_st:9092"),
            ("advertised.listeners", "PLAINTEXT://h:1,CONTROLLER://h:1"),
            ("advertised.listeners", "PLAINTEXT://[fe80::1%eth0]:9092"),
            ("listener.security.protocol.map", "PLAINTEXT:plaintext,CONTROLLER:PLAINTEXT"),
            ("controller.listener.names", "CONTROLLER"),
        ] {
            assert_eq!(beside_a_controller(key, value).map(|listeners| listeners.len()), Ok(1), "{value}");
        }
    }
}

//! `listeners`, `advertised.listeners` and what belongs to them: where to bind, and what clients are told.

use std::net::IpAddr;

use super::key::{InvalidValue, elements};
use super::raw::Settings;

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

/// `NAME://host:port`.
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

/// The listeners to bind: all but those of controllers, each with what is advertised for it.
pub(super) fn resolve(settings: &Settings, host_name: &str) -> Result<Vec<ListenerConfig>, InvalidValue> {
    let text = |key: &str| settings.value(key).unwrap_or_default();
    let invalid = |key: &str, expected: String| InvalidValue {
        key: key.to_string(),
        shown: text(key).to_string(),
        expected,
    };
    let bound = parse("listeners", text("listeners"))?;
    let advertised = parse("advertised.listeners", text("advertised.listeners"))?;
    let controllers: Vec<String> =
        elements(text("controller.listener.names")).map(str::to_ascii_uppercase).collect();
    for endpoint in &advertised {
        if controllers.contains(&endpoint.name) {
            continue;
        }
        if !bound.iter().any(|listener| listener.name == endpoint.name) {
            return Err(invalid("advertised.listeners", format!("{} is not in listeners", endpoint.name)));
        }
    }
    let mut listeners = Vec::new();
    for endpoint in bound {
        if controllers.contains(&endpoint.name) {
            continue;
        }
        let protocol = protocol_of(&endpoint.name, text("listener.security.protocol.map"));
        if protocol.as_deref() != Some("PLAINTEXT") {
            let expected = match protocol {
                Some(other) => format!("{} is {other}: only PLAINTEXT is served", endpoint.name),
                None => format!("{} is not in listener.security.protocol.map", endpoint.name),
            };
            return Err(invalid("listeners", expected));
        }
        if listeners.iter().any(|other: &ListenerConfig| {
            other.name == endpoint.name
                || (other.port == endpoint.port && other.host == endpoint.host && other.port != 0)
        }) {
            return Err(invalid("listeners", "each name and each address once".into()));
        }
        let told = advertised.iter().find(|advertised| advertised.name == endpoint.name);
        let (host, port) = told.map_or((&endpoint.host, endpoint.port), |told| (&told.host, told.port));
        let advertised_host = if host.is_empty() { host_name.to_string() } else { host.clone() };
        if advertised_host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
            let (key, what) = match told {
                Some(_) => ("advertised.listeners", "not a wildcard"),
                None => ("listeners", "set advertised.listeners too: no client can connect to a wildcard"),
            };
            return Err(invalid(key, format!("an address that clients can reach, {what}")));
        }
        listeners.push(ListenerConfig {
            name: endpoint.name,
            host: endpoint.host,
            port: endpoint.port,
            advertised_host,
            advertised_port: port,
        });
    }
    if listeners.is_empty() {
        return Err(invalid("listeners", "at least one listener that is not a controller's".into()));
    }
    let between = settings.explicit("inter.broker.listener.name");
    if between.is_some_and(|name| !listeners.iter().any(|one| one.name.eq_ignore_ascii_case(name))) {
        return Err(invalid("inter.broker.listener.name", "the name of one of listeners".into()));
    }
    Ok(listeners)
}

fn parse(key: &str, value: &str) -> Result<Vec<Endpoint>, InvalidValue> {
    elements(value)
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
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let named =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let port = port.parse().ok()?;
    named.then(|| Endpoint { name: name.to_ascii_uppercase(), host: host.to_string(), port })
}

/// The security protocol of a listener; the names of the protocols themselves need no entry.
fn protocol_of(name: &str, map: &str) -> Option<String> {
    let entry = elements(map)
        .filter_map(|entry| entry.split_once(':'))
        .find(|(listener, _)| listener.trim().eq_ignore_ascii_case(name));
    match entry {
        Some((_, protocol)) => Some(protocol.trim().to_ascii_uppercase()),
        None if name == "PLAINTEXT" => Some(name.to_string()),
        None => None,
    }
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
}

//! `controller.quorum.voters` and `controller.quorum.bootstrap.servers`: this node is a cluster by itself, and whoever
//! expects another must hear of it before there are two clusters.

use std::net::IpAddr;

use super::key::{InvalidValue, elements};
use super::listeners;
use super::raw::Settings;

const VOTERS: &str = "controller.quorum.voters";
const SERVERS: &str = "controller.quorum.bootstrap.servers";

/// Refuses a quorum of other nodes. Gives what is worth a warning.
pub(super) fn check(
    settings: &Settings,
    node_id: Option<i32>,
    host_name: &str,
) -> Result<Option<String>, InvalidValue> {
    check_voters(settings, node_id)?;
    let hosts = server_hosts(settings)?;
    let Some((first, others)) = hosts.split_first() else { return Ok(None) };
    if let Some(other) = others.iter().find(|other| !first.eq_ignore_ascii_case(other)) {
        let expected = format!(
            "{first} and {other}: a cluster of several nodes is not served yet; name this node alone, or leave it out"
        );
        return Err(settings.invalid(SERVERS, expected));
    }
    let named = listeners::hosts(settings)?;
    let is_this_node = named
        .iter()
        .map(String::as_str)
        .chain(["localhost", host_name])
        .any(|name| name.eq_ignore_ascii_case(first))
        || first.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified());
    let warning = format!(
        "{SERVERS} names {first}, which is in none of this node's listeners: it joins no other node, and is a cluster by \
         itself"
    );
    Ok((!is_this_node).then_some(warning))
}

fn check_voters(settings: &Settings, node_id: Option<i32>) -> Result<(), InvalidValue> {
    let mut ids = Vec::new();
    for voter in elements(settings.value(VOTERS).unwrap_or_default()) {
        let id = voter_id(voter);
        ids.push(id.ok_or_else(|| settings.invalid(VOTERS, format!("{voter} must be id@host:port")))?);
    }
    if ids.is_empty() {
        return Ok(());
    }
    let Some(node_id) = node_id else {
        return Err(settings.invalid(VOTERS, "set node.id, too, to that of this node"));
    };
    if ids.iter().any(|id| *id != node_id) {
        let expected = format!(
            "a cluster of several nodes is not served yet; name this node alone ({node_id}@host:port), or leave it out"
        );
        return Err(settings.invalid(VOTERS, expected));
    }
    Ok(())
}

/// The id of `id@host:port`.
fn voter_id(voter: &str) -> Option<i32> {
    let (id, address) = voter.split_once('@')?;
    listeners::host_and_port(address)?;
    id.parse().ok()
}

fn server_hosts(settings: &Settings) -> Result<Vec<&str>, InvalidValue> {
    elements(settings.value(SERVERS).unwrap_or_default())
        .map(|server| {
            let parts = listeners::host_and_port(server).map(|(host, _)| host);
            parts.ok_or_else(|| settings.invalid(SERVERS, format!("{server} must be host:port")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(given: &[(&str, &str)]) -> Result<Option<String>, String> {
        let given: Vec<(String, String)> =
            given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let settings = Settings::gather(None, [], &given).map_err(|error| error.to_string())?;
        let node_id = settings.value("node.id").map(|id| id.parse().expect("a number"));
        check(&settings, node_id, "box.example").map_err(|error| error.to_string())
    }

    #[test]
    fn a_quorum_of_other_nodes_is_refused() {
        for (voters, says) in [
            ("1@a:9093,2@b:9093,3@c:9093", "name this node alone (1@host:port)"),
            ("2@localhost:9093", "name this node alone (1@host:port)"),
            ("foo", "foo must be id@host:port"),
            ("1@localhost", "must be id@host:port"),
            ("one@localhost:9093", "must be id@host:port"),
            ("1@ho st:9093", "must be id@host:port"),
        ] {
            let error = checked(&[("node.id", "1"), (VOTERS, voters)]).expect_err(voters);
            assert!(error.contains(says), "{error}");
        }
        let error = checked(&[(VOTERS, "1@localhost:9093")]).expect_err("which voter is this one?");
        assert!(error.contains("set node.id"), "{error}");
        for (servers, says) in [
            ("a:9093,b:9093,c:9093", "a and b: a cluster of several nodes is not served yet"),
            ("foo", "foo must be host:port"),
            ("foo:x", "must be host:port"),
        ] {
            let error = checked(&[(SERVERS, servers)]).expect_err(servers);
            assert!(error.contains(says), "{error}");
        }
    }

    /// The second is what Apache Kafka 4 ships, the last what a container is often given.
    #[test]
    fn a_node_by_itself_may_say_so() {
        for given in [
            &[][..],
            &[
                (SERVERS, "localhost:9093"),
                ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093"),
                ("advertised.listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
            ],
            &[("node.id", "1"), (VOTERS, "1@0.0.0.0:0")],
            &[("node.id", "7"), (VOTERS, "7@anywhere:9093")],
            &[(SERVERS, "[::1]:9093")],
            &[(SERVERS, "BOX.example:9093")],
            &[(SERVERS, "kafka:9093"), ("advertised.listeners", "PLAINTEXT://kafka:9092")],
        ] {
            assert_eq!(checked(given), Ok(None), "{given:?}");
        }
    }

    #[test]
    fn another_controller_is_warned_of() {
        let warning = checked(&[(SERVERS, "kafka-0:9093")]).expect("it may be another name of this node");
        assert!(warning.expect("a warning").contains("names kafka-0"));
    }
}

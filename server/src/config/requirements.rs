//! What settings must be to each other, and in their resolved unit, beyond each one's own range.
//!
//! Pure, and the same at the start and when a dynamic setting is changed: both ask with what would count then. Kafka:
//! `KafkaConfig.validateValues`, whose order and words these are.

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
const MEBIBYTE: i64 = 1 << 20;

const ROLL: [(&str, i64); 2] = [("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)];
const JITTER: [(&str, i64); 2] = [("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)];
const RETENTION: [(&str, i64); 3] =
    [("log.retention.ms", 1), ("log.retention.minutes", MINUTE_MS), ("log.retention.hours", HOUR_MS)];

/// A requirement that is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// The key whose value does not meet it.
    pub key: &'static str,
    /// What is required.
    pub requirement: String,
}

/// Checks every requirement. `value` gives what counts for a key, its default included; what it does not know, or what
/// is no number, requires nothing.
pub fn check<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Result<(), Unmet> {
    let given = Given { value };
    given.times()?;
    given.inert()?;
    given.connections()
}

/// Whether a single value meets what is required of it whatever the others are.
pub fn is_met_by(key: &str, value: &str) -> bool {
    check(|other| (other == key).then_some(value)).is_ok()
}

fn require(is_met: bool, key: &'static str, requirement: &str) -> Result<(), Unmet> {
    if is_met { Ok(()) } else { Err(Unmet { key, requirement: requirement.to_owned() }) }
}

struct Given<F> {
    value: F,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Given<F> {
    fn number(&self, key: &str) -> Option<i64> {
        (self.value)(key)?.trim().parse().ok()
    }

    /// The first of several keys for the same that is given, in milliseconds.
    fn first(&self, keys: &[(&'static str, i64)]) -> Option<(&'static str, i64)> {
        keys.iter().find_map(|(key, unit)| Some((*key, self.number(key)?.saturating_mul(*unit))))
    }

    fn times(&self) -> Result<(), Unmet> {
        if let Some((key, roll_ms)) = self.first(&ROLL) {
            require(roll_ms >= 1, key, "log.roll.ms must be greater than or equal to 1")?;
        }
        if let Some((key, jitter_ms)) = self.first(&JITTER) {
            require(jitter_ms >= 0, key, "log.roll.jitter.ms must be greater than or equal to 0")?;
        }
        if let Some((key, retention_ms)) = self.first(&RETENTION) {
            // Any negative number is taken for -1.
            let requirement = "log.retention.ms must be unlimited (-1) or, greater than or equal to 1";
            require(retention_ms != 0, key, requirement)?;
        }
        Ok(())
    }

    /// Of keys without effect here: a file that Kafka refuses is refused.
    fn inert(&self) -> Result<(), Unmet> {
        let buffer = "log.cleaner.dedupe.buffer.size";
        if let (Some(bytes), Some(threads)) = (self.number(buffer), self.number("log.cleaner.threads")) {
            let is_enough = bytes.checked_div(threads).is_some_and(|share| share > MEBIBYTE);
            require(
                is_enough,
                buffer,
                "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.",
            )?;
        }
        let wait = "replica.fetch.wait.max.ms";
        if let (Some(wait_ms), Some(socket_ms)) =
            (self.number(wait), self.number("replica.socket.timeout.ms"))
        {
            let requirement = "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent \
                               unnecessary socket timeouts";
            require(wait_ms <= socket_ms, "replica.socket.timeout.ms", requirement)?;
        }
        if let (Some(wait_ms), Some(lag_ms)) = (self.number(wait), self.number("replica.lag.time.max.ms")) {
            let requirement = "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms \
                               to prevent frequent changes in ISR";
            require(wait_ms <= lag_ms, "replica.lag.time.max.ms", requirement)?;
        }
        Ok(())
    }

    fn connections(&self) -> Result<(), Unmet> {
        let queued = "queued.max.request.bytes";
        if let (Some(queued_bytes), Some(largest)) =
            (self.number(queued), self.number("socket.request.max.bytes"))
        {
            let requirement = "queued.max.request.bytes must be larger or equal to socket.request.max.bytes";
            require(queued_bytes <= 0 || queued_bytes >= largest, queued, requirement)?;
        }
        let (each, overrides) = ("max.connections.per.ip", "max.connections.per.ip.overrides");
        if self.number(each) == Some(0) {
            let requirement = "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides \
                               property is set.";
            require((self.value)(overrides).is_none_or(|list| !list.trim().is_empty()), each, requirement)?;
        }
        let (idle, delay) = ("connections.max.idle.ms", "connection.failed.authentication.delay.ms");
        if let (Some(idle_ms), Some(delay_ms)) = (self.number(idle), self.number(delay)) {
            let requirement = format!(
                "{delay}={delay_ms} should always be less than {idle}={idle_ms} to prevent failed authentication \
                 responses from timing out"
            );
            require(idle_ms < 0 || delay_ms < idle_ms, idle, &requirement)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn unmet(given: &[(&str, &str)]) -> Option<(&'static str, String)> {
        let given: Vec<(String, String)> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let settings = Settings::gather(None, [], &given).expect("each by itself is valid");
        check(|key| settings.value(key)).err().map(|unmet| (unmet.key, unmet.requirement))
    }

    /// Asked of Apache Kafka 4.3.1, with the same words.
    #[test]
    fn what_kafka_refuses_is_refused() {
        let retention = "log.retention.ms must be unlimited (-1) or, greater than or equal to 1";
        let roll = "log.roll.ms must be greater than or equal to 1";
        for (given, key, requirement) in [
            (&[("log.retention.ms", "0")][..], "log.retention.ms", retention),
            (&[("log.retention.minutes", "0")], "log.retention.minutes", retention),
            (&[("log.retention.hours", "0")], "log.retention.hours", retention),
            (&[("log.roll.ms", "0")], "log.roll.ms", roll),
            (&[("log.roll.ms", "-1")], "log.roll.ms", roll),
            (
                &[("log.roll.jitter.ms", "-1")],
                "log.roll.jitter.ms",
                "log.roll.jitter.ms must be greater than or equal to 0",
            ),
            (
                &[("log.cleaner.dedupe.buffer.size", "100")],
                "log.cleaner.dedupe.buffer.size",
                "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.",
            ),
            (
                &[("replica.lag.time.max.ms", "5")],
                "replica.lag.time.max.ms",
                "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to \
                 prevent frequent changes in ISR",
            ),
            (
                &[("queued.max.request.bytes", "100")],
                "queued.max.request.bytes",
                "queued.max.request.bytes must be larger or equal to socket.request.max.bytes",
            ),
            (
                &[("max.connections.per.ip", "0")],
                "max.connections.per.ip",
                "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is \
                 set.",
            ),
            (
                &[("connections.max.idle.ms", "0")],
                "connections.max.idle.ms",
                "connection.failed.authentication.delay.ms=100 should always be less than \
                 connections.max.idle.ms=0 to prevent failed authentication responses from timing out",
            ),
        ] {
            assert_eq!(unmet(given), Some((key, requirement.to_owned())), "{given:?}");
        }
    }

    /// Asked of Apache Kafka 4.3.1, which starts with each.
    #[test]
    fn what_kafka_takes_is_taken() {
        for given in [
            &[][..],
            &[("log.retention.ms", "-5")],
            &[("log.retention.minutes", "-1")],
            &[("log.retention.hours", "0"), ("log.retention.ms", "1")],
            &[("queued.max.request.bytes", "0")],
            &[("queued.max.request.bytes", "100"), ("socket.request.max.bytes", "100")],
            &[("max.connections.per.ip", "0"), ("max.connections.per.ip.overrides", "127.0.0.1:5")],
            &[("connections.max.idle.ms", "-1")],
        ] {
            assert_eq!(unmet(given), None, "{given:?}");
        }
    }

    #[test]
    fn a_value_by_itself_is_not_held_against_others() {
        assert!(is_met_by("queued.max.request.bytes", "100"));
        assert!(is_met_by("max.connections.per.ip", "0"));
        assert!(is_met_by("log.retention.ms", "-1"));
        assert!(!is_met_by("log.retention.ms", "0"));
        assert!(!is_met_by("log.roll.ms", "0"));
    }
}

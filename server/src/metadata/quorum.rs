//! `quorum-state`: who votes and who leads the metadata quorum, as Kafka writes it.
//!
//! A small JSON file, replaced durably before the first record of a new epoch. With a static quorum
//! (`controller.quorum.voters`) it is of `data_version` 0 and names the voters; with a dynamic one (KIP-853)
//! it is of `data_version` 1, and the voters are in the log.

/// What `quorum-state` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumState {
    /// The leader of the epoch; −1 if unknown.
    pub leader_id: i32,
    /// The newest epoch that was seen.
    pub leader_epoch: i32,
    /// The voters of a static quorum; `None` for a dynamic one.
    pub voters: Option<Vec<i32>>,
}

/// A `quorum-state` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("quorum-state: {0}")]
pub struct QuorumStateError(String);

impl QuorumState {
    /// The text of the file.
    pub fn to_json(&self) -> String {
        let Self { leader_id, leader_epoch, voters } = self;
        match voters {
            Some(voters) => {
                let voters: Vec<String> = voters.iter().map(|id| format!("{{\"voterId\":{id}}}")).collect();
                format!(
                    "{{\"clusterId\":\"\",\"leaderId\":{leader_id},\"leaderEpoch\":{leader_epoch},\
                     \"votedId\":-1,\"appliedOffset\":0,\"currentVoters\":[{}],\"data_version\":0}}",
                    voters.join(",")
                )
            }
            None => format!(
                "{{\"leaderId\":{leader_id},\"leaderEpoch\":{leader_epoch},\"votedId\":-1,\
                 \"votedDirectoryId\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"data_version\":1}}"
            ),
        }
    }

    /// Reads the text of the file.
    pub fn from_json(text: &str) -> Result<Self, QuorumStateError> {
        let required = |key: &str| {
            integers(text, key)
                .first()
                .copied()
                .ok_or_else(|| QuorumStateError(format!("no number {key} in {text:?}")))
        };
        let int = |number: i64| {
            i32::try_from(number).map_err(|_| QuorumStateError(format!("{number} is no 32-bit number")))
        };
        let voters = match required("data_version")? {
            0 => Some(integers(text, "voterId").into_iter().map(int).collect::<Result<Vec<i32>, _>>()?),
            1 => None,
            other => return Err(QuorumStateError(format!("data_version {other}; 0 and 1 are known"))),
        };
        let (leader_id, leader_epoch) = (int(required("leaderId")?)?, int(required("leaderEpoch")?)?);
        Ok(Self { leader_id, leader_epoch, voters })
    }
}

/// Every integer that stands behind `"key":`, in order. The file is flat and made by machines, so that this
/// finds the same as a parser of all JSON would.
fn integers(text: &str, key: &str) -> Vec<i64> {
    let quoted = format!("\"{key}\"");
    text.match_indices(&quoted)
        .filter_map(|(start, _)| {
            let rest = text[start + quoted.len()..].trim_start().strip_prefix(':')?.trim_start();
            let end =
                rest.find(|letter: char| !letter.is_ascii_digit() && letter != '-').unwrap_or(rest.len());
            rest[..end].parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATIC: &str = "{\"clusterId\":\"\",\"leaderId\":1,\"leaderEpoch\":1,\"votedId\":-1,\
                          \"appliedOffset\":0,\"currentVoters\":[{\"voterId\":1}],\"data_version\":0}";
    const DYNAMIC: &str = "{\"leaderId\":1,\"leaderEpoch\":1,\"votedId\":-1,\
                           \"votedDirectoryId\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"data_version\":1}";

    #[test]
    fn what_kafka_wrote_is_read_and_written() {
        let of_one = QuorumState { leader_id: 1, leader_epoch: 1, voters: Some(vec![1]) };
        assert_eq!(QuorumState::from_json(STATIC), Ok(of_one.clone()));
        assert_eq!(of_one.to_json(), STATIC);
        let dynamic = QuorumState { leader_id: 1, leader_epoch: 1, voters: None };
        assert_eq!(QuorumState::from_json(DYNAMIC), Ok(dynamic.clone()));
        assert_eq!(dynamic.to_json(), DYNAMIC);
    }

    #[test]
    fn space_is_allowed_and_nonsense_is_not() {
        let spaced = STATIC.replace(':', " : ");
        assert!(QuorumState::from_json(&spaced).is_ok());
        for bad in ["", "{}", "{\"data_version\":2}", "{\"data_version\":0,\"leaderId\":1}"] {
            assert!(QuorumState::from_json(bad).is_err(), "{bad}");
        }
    }
}

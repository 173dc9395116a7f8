//! Where settings come from: the file, the environment as Kafka's container images take it, the command line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::key::{Effect, InvalidValue, Key};
use super::{keys, properties};

/// Where a setting was made; of several the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `server.properties`.
    File,
    /// A `KAFKA_…` variable.
    Environment,
    /// `--override`.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Environment => "environment",
            Self::CommandLine => "command line",
        })
    }
}

/// What was set explicitly: names that the table knows, values within their ranges.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: BTreeMap<String, (String, Origin)>,
    /// Said once at start.
    warnings: Vec<String>,
}

/// Variables of the container images' and Kafka's own scripts, which are no settings.
const SCRIPT_VARIABLES: [&str; 17] = [
    "KAFKA_VERSION",
    "KAFKA_HOME",
    "KAFKA_HEAP",
    "KAFKA_HEAP_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JMX_PORT",
    "KAFKA_DEBUG",
    "KAFKA_CLUSTERS_DEFAULT",
    "KAFKA_SCALA_VERSION",
];

impl Settings {
    /// Reads all three sources.
    ///
    /// An unknown name in the file or on the command line is an error. In the environment it is only said:
    /// other programs name variables `KAFKA_…` too.
    pub fn gather(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        if let Some(path) = file {
            for (name, value) in read(path)? {
                settings.set(&name, &value, Origin::File)?;
            }
        }
        for (variable, value) in environment {
            let Some(name) = setting_of(&variable) else { continue };
            if keys::find(&name).is_none() && !keys::is_open(&name) {
                settings.warnings.push(format!("{variable} in the environment is no known setting"));
                continue;
            }
            settings.set(&name, &value, Origin::Environment)?;
        }
        for (name, value) in overrides {
            settings.set(name, value, Origin::CommandLine)?;
        }
        settings.note_inert();
        Ok(settings)
    }

    /// The value that somebody set.
    pub fn explicit(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.as_str())
    }

    /// The value that counts: the one set, or else the default.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.explicit(name).or_else(|| keys::find(name).and_then(Key::default_value))
    }

    /// What was set, and where.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Origin)> {
        self.values.iter().map(|(name, (value, origin))| (name.as_str(), value.as_str(), *origin))
    }

    /// What is worth saying at start.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The error that says that the value of `key` will not do.
    pub(super) fn invalid(&self, key: &str, expected: impl Into<String>) -> InvalidValue {
        let shown = self.value(key).unwrap_or_default().to_string();
        InvalidValue { key: key.to_string(), shown, expected: expected.into() }
    }

    /// Adds to what is said at start.
    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    fn set(&mut self, name: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
        let value = value.trim();
        match keys::find(name) {
            Some(key) => key.check(value)?,
            None if keys::is_open(name) => {}
            None => {
                let nearest = keys::nearest(name).map(|key| format!("; did you mean {}?", key.name));
                return Err(ConfigError::Unknown {
                    key: name.to_string(),
                    value: value.to_string(),
                    hint: nearest.unwrap_or_default(),
                });
            }
        }
        self.values.insert(name.to_string(), (value.to_string(), origin));
        Ok(())
    }

    fn note_inert(&mut self) {
        let inert: Vec<&str> = self
            .values
            .keys()
            .filter(|name| keys::find(name).is_none_or(|key| key.effect == Effect::None))
            .map(String::as_str)
            .collect();
        if !inert.is_empty() {
            self.warnings.push(format!("accepted without effect here: {}", inert.join(", ")));
        }
    }
}

fn read(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let unreadable = |why: String| ConfigError::File { path: PathBuf::from(path), why };
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    properties::parse(&properties::text(bytes)).map_err(|error| unreadable(error.to_string()))
}

/// The setting that a variable of the environment stands for: `KAFKA_` is cut, `___` means `-`, `__` means
/// `_`, `_` means `.`, all in lower case.
fn setting_of(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("KAFKA_")?;
    if SCRIPT_VARIABLES.contains(&variable) {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    Some(lower.replace("___", "-").replace("__", "\u{0}").replace('_', ".").replace('\u{0}', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_string(), value.to_string())
    }

    #[test]
    fn the_command_line_wins_over_the_environment_over_the_file() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "num.partitions=2\nlog.retention.hours=1\nnode.id=3\n").expect("written");
        let environment = [pair("KAFKA_NUM_PARTITIONS", "4"), pair("KAFKA_NODE_ID", "5"), pair("PATH", "/")];
        let settings = Settings::gather(Some(file.path()), environment, &[pair("node.id", "6")]);
        let settings = settings.expect("sound settings");
        assert_eq!(settings.value("log.retention.hours"), Some("1"));
        assert_eq!(settings.value("num.partitions"), Some("4"));
        assert_eq!(settings.value("node.id"), Some("6"));
        assert_eq!(settings.value("message.max.bytes"), Some("1048588"));
        assert_eq!(settings.explicit("message.max.bytes"), None);
    }

    #[test]
    fn an_unknown_name_stops_the_start_and_says_what_was_meant() {
        let error = Settings::gather(None, [], &[pair("num.partition", "1")]).expect_err("no such key");
        assert!(error.to_string().contains("did you mean num.partitions?"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_stops_the_start() {
        let error = Settings::gather(None, [], &[pair("num.partitions", "0")]).expect_err("out of range");
        assert_eq!(error.to_string(), "num.partitions=0: must be an int, at least 1");
    }

    /// `KAFKA_LOG_DIRS=` of a container means nothing, and not the default.
    #[test]
    fn an_empty_value_is_not_the_default() {
        for key in ["log.dirs", "log.dir", "listeners", "advertised.listeners", "controller.listener.names"] {
            let variable = format!("KAFKA_{}", key.to_ascii_uppercase().replace('.', "_"));
            let error = Settings::gather(None, [pair(&variable, "")], &[]).expect_err(key);
            assert!(error.to_string().starts_with(&format!("{key}=: must not be empty")), "{error}");
        }
    }

    #[test]
    fn strangers_in_the_environment_are_only_said() {
        let environment = [pair("KAFKA_SERVICE_HOST", "10.0.0.1"), pair("KAFKA_HEAP_OPTS", "-Xmx1g")];
        let settings = Settings::gather(None, environment, &[]).expect("still starts");
        assert_eq!(settings.warnings().len(), 1);
        assert!(settings.warnings()[0].contains("KAFKA_SERVICE_HOST"));
    }

    #[test]
    fn keys_without_effect_are_said_in_one_line() {
        let given = [pair("num.io.threads", "8"), pair("log.cleaner.threads", "2")];
        let settings = Settings::gather(None, [], &given).expect("accepted");
        assert_eq!(settings.warnings().len(), 1, "{:?}", settings.warnings());
    }

    #[test]
    fn variables_become_names_as_the_images_do_it() {
        assert_eq!(setting_of("KAFKA_LOG_DIRS").as_deref(), Some("log.dirs"));
        assert_eq!(setting_of("KAFKA_LISTENER_NAME_A__B_X___Y").as_deref(), Some("listener.name.a_b.x-y"));
        assert_eq!(setting_of("KAFKA_HEAP_OPTS"), None);
        assert_eq!(setting_of("HOME"), None);
    }
}

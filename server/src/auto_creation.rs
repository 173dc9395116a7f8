//! Topics that clients make by asking for them, created behind the answer.
//!
//! Of one core: which names are being created, so that a client that asks again meanwhile, as clients do, asks
//! the controller nothing. At most `NAMES_MAX` at a time; what is beyond is left to be asked for again. A
//! crash forgets what was not yet created.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;

use crate::shard::Shard;

/// Names that may be on their way at one time.
const NAMES_MAX: usize = 1_000;

/// Between two words in the log about topics that cannot be created: clients ask every 100 ms.
const TELLING_INTERVAL: Duration = Duration::from_secs(1);

/// The topics of one core that are being created.
#[derive(Default)]
pub struct AutoCreation {
    names: RefCell<BTreeSet<String>>,
    told: Cell<Option<Instant>>,
}

impl AutoCreation {
    /// Those that nobody is creating yet, as far as there is room; they are now being created.
    fn claim(&self, names: BTreeSet<&str>) -> Vec<String> {
        let mut claimed = self.names.borrow_mut();
        let mut new = Vec::new();
        for name in names {
            if claimed.len() < NAMES_MAX && claimed.insert(name.to_owned()) {
                new.push(name.to_owned());
            }
        }
        new
    }

    fn release(&self, names: &[String]) {
        let mut claimed = self.names.borrow_mut();
        for name in names {
            claimed.remove(name);
        }
    }

    fn may_tell(&self, now: Instant) -> bool {
        if self.told.get().is_some_and(|told| now < told + TELLING_INTERVAL) {
            return false;
        }
        self.told.set(Some(now));
        true
    }
}

/// Begins to create topics with the broker's defaults. Why one cannot be is told in the log alone.
pub fn begin(shard: &Rc<Shard>, names: BTreeSet<&str>) {
    let names = shard.auto_creation().claim(names);
    if names.is_empty() {
        return;
    }
    let creating = shard.clone();
    shard.ring().spawn(async move {
        let shard = creating;
        let topics: Vec<TopicName> =
            names.iter().map(|name| TopicName(StrBytes::from_string(name.clone()))).collect();
        let created =
            shard.with_controller(async move |controller| controller.create_automatically(topics).await);
        let refused = match created.await {
            Ok(refused) => refused.into_iter().next(),
            Err(error) => Some((TopicName(StrBytes::from_string(names[0].clone())), error)),
        };
        if let Some((topic, error)) = refused
            && shard.auto_creation().may_tell(shard.ring().now())
        {
            tracing::warn!(topic = topic.as_str(), %error, "cannot create a topic that a client asked for");
        }
        shard.auto_creation().release(&names);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_created_once_at_a_time_and_not_too_many_of_them() {
        let creation = AutoCreation::default();
        assert_eq!(creation.claim(BTreeSet::from(["a", "b"])), ["a", "b"]);
        assert_eq!(creation.claim(BTreeSet::from(["b", "c"])), ["c"]);
        creation.release(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(creation.claim(BTreeSet::from(["a", "c"])), ["a"]);
        let many: Vec<String> = (0..2 * NAMES_MAX).map(|index| index.to_string()).collect();
        let claimed = creation.claim(many.iter().map(String::as_str).collect());
        assert_eq!(claimed.len(), NAMES_MAX - 2);
        assert!(creation.claim(BTreeSet::from(["z"])).is_empty());
    }
}

//! Partition folders that the metadata does not know: set aside before any partition is opened.
//!
//! A crash between a topic's durable removal and the renaming of its folders leaves such; so does Apache
//! Kafka. A folder that stayed in place would give its records to the next topic of the same name. One whose
//! removal is in the log becomes `-delete`, which the engine unlinks; any other becomes `-stray`, as in Kafka,
//! and is never deleted. On the main thread, after the journal was folded in and before the cores start.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use flumen_engine::layout::{FolderState, PartitionFolder, retired_folder};
use uuid::Uuid;

use super::image::Image;
use super::uuid_text;

/// Renames every unknown partition folder; says which, with their new names. `folders` are those in use, with the
/// topic ids in their `partition.metadata`; `removed` are the ids of topics whose removal is known.
pub fn set_aside<'a>(
    directory: &Path,
    folders: impl Iterator<Item = (&'a str, Option<Uuid>)>,
    image: &Image,
    removed: &BTreeSet<Uuid>,
) -> io::Result<Vec<(String, String)>> {
    let mut renamed = Vec::new();
    for (name, found) in folders.filter(|(name, _)| *name != super::directory::METADATA_FOLDER) {
        let Some(folder) = PartitionFolder::parse(name).filter(|folder| folder.state == FolderState::Live)
        else {
            continue;
        };
        let topic = image.topic(&folder.topic);
        let expected =
            topic.filter(|topic| topic.partition(folder.partition).is_some()).map(|topic| topic.id);
        // Without partition.metadata a crash cut the creation off, if the metadata knows the partition.
        let is_known = expected.is_some() && found.is_none_or(|found| Some(found) == expected);
        if is_known {
            continue;
        }
        let state = match found {
            Some(id) if removed.contains(&id) => FolderState::Delete,
            _ => FolderState::Stray,
        };
        let retired = retired_folder(&folder.topic, folder.partition, uuid_text::random(), state);
        fs::rename(directory.join(name), directory.join(&retired))?;
        renamed.push((name.to_owned(), retired));
    }
    if !renamed.is_empty() {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::records::{Partition, Topic};

    #[test]
    fn only_what_the_metadata_knows_stays_in_place() {
        let directory = tempfile::tempdir().expect("a folder");
        let mut image = Image::default();
        let topic_id = Uuid::from_u128(0x77);
        image.apply(&Topic { name: "t".into(), topic_id }.into()).expect("applied");
        for partition_id in 0..3 {
            image.apply(&Partition::single(topic_id, partition_id).into()).expect("applied");
        }
        let path = directory.path();
        let folders = [
            ("t-0", Some(0x77)),
            ("t-1", None),
            ("t-2", Some(0x55)),
            ("t-9", Some(0x77)),
            ("gone-0", Some(0x66)),
            ("other-0.00000000000000000000000000000007-stray", None),
            ("__cluster_metadata-0", None),
        ];
        let folders = folders.map(|(name, id)| (name, id.map(Uuid::from_u128)));
        folders.iter().for_each(|(name, _)| fs::create_dir(path.join(name)).expect("created"));
        let removed = BTreeSet::from([Uuid::from_u128(0x66)]);
        let mut renamed = set_aside(path, folders.into_iter(), &image, &removed).expect("renamed");
        renamed.sort();
        let told: Vec<(&str, bool)> =
            renamed.iter().map(|(from, to)| (from.as_str(), to.ends_with("-delete"))).collect();
        assert_eq!(told, [("gone-0", true), ("t-2", false), ("t-9", false)]);
        for (from, to) in &renamed {
            assert!(!path.join(from).exists() && path.join(to).is_dir());
        }
        let left = folders.into_iter().filter(|(name, _)| path.join(name).exists());
        assert_eq!(set_aside(path, left, &image, &removed).expect("nothing left to do"), []);
    }
}

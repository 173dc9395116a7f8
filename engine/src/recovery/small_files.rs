//! The small files beside a partition's logs. Each is a wait for the disk and for a thread, so those that a start needs in
//! any case are read together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::storage::{Directory, StorageError, if_there};

/// More than any of them has, in bytes.
pub(super) const SMALL_FILE_BYTES_MAX: usize = 64 << 20;

/// The contents of a small file, if it is there.
pub(super) async fn read_small(
    directory: &dyn Directory,
    path: impl AsRef<Path>,
) -> Result<Option<Vec<u8>>, StorageError> {
    if_there(directory.read(path.as_ref(), SMALL_FILE_BYTES_MAX).await)
}

/// Small files of one folder.
pub(super) struct SmallFiles {
    directory: Rc<dyn Directory>,
    folder: PathBuf,
    /// What was read together, by name: what it holds, if it is there.
    at_hand: BTreeMap<String, Option<Vec<u8>>>,
}

impl SmallFiles {
    /// Reads those of these names.
    pub(super) async fn read(
        directory: &Rc<dyn Directory>,
        folder: &Path,
        names: Vec<String>,
    ) -> Result<Self, StorageError> {
        let contents = directory.read_each(folder, names.clone(), SMALL_FILE_BYTES_MAX).await?;
        let at_hand = names.into_iter().zip(contents).collect();
        Ok(Self { directory: directory.clone(), folder: folder.to_path_buf(), at_hand })
    }

    /// What the file holds, if it is there; read now, unless it was already.
    pub(super) async fn take(&mut self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        match self.at_hand.remove(name) {
            Some(contents) => Ok(contents),
            None => read_small(&*self.directory, self.folder.join(name)).await,
        }
    }
}

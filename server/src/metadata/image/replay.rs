//! From records in log order to images: metadata transactions are applied whole or not at all.

use super::{ApplyError, Image};
use crate::metadata::records::Record;

/// Applies a log to an image.
#[derive(Debug, Default)]
pub struct Replay {
    image: Image,
    /// The records of the metadata transaction that is open, in order.
    transaction: Option<Vec<Record>>,
}

impl Replay {
    /// Goes on from `image`.
    pub fn new(image: Image) -> Self {
        Self { image, transaction: None }
    }

    /// The state without the transaction that is open.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Whether a metadata transaction has begun and not ended.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Takes the record at `offset`, written in `epoch`.
    pub fn apply(&mut self, offset: i64, epoch: i32, record: Record) -> Result<(), ApplyError> {
        match record {
            Record::BeginTransaction(_) => {
                if self.transaction.is_some() {
                    return Err(ApplyError::Transaction);
                }
                self.transaction = Some(Vec::new());
            }
            Record::EndTransaction(_) => {
                let records = self.transaction.take().ok_or(ApplyError::Transaction)?;
                records.iter().try_for_each(|record| self.image.apply(record))?;
            }
            Record::AbortTransaction(_) => {
                self.transaction.take().ok_or(ApplyError::Transaction)?;
            }
            record => match &mut self.transaction {
                Some(records) => records.push(record),
                None => self.image.apply(&record)?,
            },
        }
        self.skip(offset, epoch);
        Ok(())
    }

    /// Passes a control record, which changes nothing.
    pub fn skip(&mut self, offset: i64, epoch: i32) {
        self.image.advance(offset, epoch);
    }

    /// The image, and whether a transaction was left open: its records are not in the image.
    pub fn finish(self) -> (Image, bool) {
        let open = self.in_transaction();
        (self.image, open)
    }
}

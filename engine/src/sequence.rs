//! A sequence whose newest element lies in place: what grows at its end is found without a way through the heap.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

/// Elements from the oldest to the newest.
///
/// Invariant: there are no older ones without a newest.
#[derive(Debug)]
pub(crate) struct Sequence<T> {
    newest: Option<T>,
    older: VecDeque<T>,
}

impl<T> Sequence<T> {
    pub(crate) const fn new() -> Self {
        Self { newest: None, older: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.older.len() + usize::from(self.newest.is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    pub(crate) fn oldest(&self) -> Option<&T> {
        self.older.front().or(self.newest.as_ref())
    }

    pub(crate) fn newest(&self) -> Option<&T> {
        self.newest.as_ref()
    }

    pub(crate) fn newest_mut(&mut self) -> Option<&mut T> {
        self.newest.as_mut()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        match index == self.older.len() {
            true => self.newest.as_ref(),
            false => self.older.get(index),
        }
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match index == self.older.len() {
            true => self.newest.as_mut(),
            false => self.older.get_mut(index),
        }
    }

    /// Adds one behind the newest.
    pub(crate) fn push(&mut self, element: T) {
        self.older.extend(self.newest.replace(element));
    }

    /// Adds one before the oldest.
    pub(crate) fn push_oldest(&mut self, element: T) {
        match self.newest {
            Some(_) => self.older.push_front(element),
            None => self.newest = Some(element),
        }
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<T> {
        self.older.pop_front().or_else(|| self.newest.take())
    }

    pub(crate) fn pop_newest(&mut self) -> Option<T> {
        let newest = self.newest.take();
        self.newest = self.older.pop_back();
        newest
    }

    /// Takes away those from `index` on, oldest first.
    pub(crate) fn split_off(&mut self, index: usize) -> Vec<T> {
        let mut taken: Vec<T> = Vec::with_capacity(self.len().saturating_sub(index));
        while self.len() > index {
            taken.extend(self.pop_newest());
        }
        taken.reverse();
        taken
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.older.iter().chain(&self.newest)
    }

    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.older.iter_mut().chain(&mut self.newest)
    }

    /// How many are at the beginning of which `is_before` holds; it holds of none behind one of which it does not. Looks
    /// at the newest first.
    pub(crate) fn partition_point(&self, is_before: impl Fn(&T) -> bool) -> usize {
        match self.newest.as_ref().is_some_and(&is_before) {
            true => self.len(),
            false => self.older.partition_point(is_before),
        }
    }

    /// Where the one with this key is, if they rise by it.
    pub(crate) fn index_of_key<K: Ord>(&self, key: &K, key_of: impl Fn(&T) -> K) -> Option<usize> {
        let index = self.partition_point(|element| key_of(element) < *key);
        (key_of(self.get(index)?) == *key).then_some(index)
    }
}

impl<T> FromIterator<T> for Sequence<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut sequence = Self::new();
        elements.into_iter().for_each(|element| sequence.push(element));
        sequence
    }
}

impl<T> Index<usize> for Sequence<T> {
    type Output = T;
    fn index(&self, index: usize) -> &T {
        self.get(index).expect("an index below the length")
    }
}

impl<T> IndexMut<usize> for Sequence<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        self.get_mut(index).expect("an index below the length")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_a_deque_is(steps in prop::collection::vec((0..6u8, 0..8usize), 0..60)) {
            let (mut deque, mut sequence) = (VecDeque::new(), Sequence::new());
            for (number, (step, index)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        deque.push_back(number);
                        sequence.push(number);
                    }
                    2 => {
                        deque.push_front(number);
                        sequence.push_oldest(number);
                    }
                    3 => prop_assert_eq!(deque.pop_front(), sequence.pop_oldest()),
                    4 => prop_assert_eq!(deque.pop_back(), sequence.pop_newest()),
                    _ => {
                        let taken: Vec<usize> = deque.drain(index.min(deque.len())..).collect();
                        prop_assert_eq!(taken, sequence.split_off(index));
                    }
                }
                prop_assert!(deque.iter().eq(sequence.iter()));
                prop_assert!(deque.iter().rev().eq(sequence.iter().rev()));
                prop_assert_eq!(deque.len(), sequence.len());
                prop_assert_eq!(deque.is_empty(), sequence.is_empty());
                prop_assert_eq!((deque.front(), deque.back()), (sequence.oldest(), sequence.newest()));
                prop_assert_eq!(deque.get(index), sequence.get(index));
            }
            prop_assert!(deque.iter().eq(deque.iter().copied().collect::<Sequence<_>>().iter()));
        }

        #[test]
        fn keys_that_rise_are_found(keys in prop::collection::btree_set(0..40u8, 0..20), key in 0..40u8) {
            let deque: VecDeque<u8> = keys.iter().copied().collect();
            let sequence: Sequence<u8> = keys.into_iter().collect();
            prop_assert_eq!(deque.binary_search(&key).ok(), sequence.index_of_key(&key, |key| *key));
            prop_assert_eq!(deque.partition_point(|it| *it < key), sequence.partition_point(|it| *it < key));
        }
    }
}

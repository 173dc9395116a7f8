//! Asking many partitions something, each on its own core: one message per core, answers in the order of the
//! questions.

use std::collections::BTreeMap;
use std::rc::Rc;

use flumen_engine::{CoreId, Partition, PartitionId};
use futures_util::future::{join_all, poll_immediate};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::shard::Shard;
use crate::time_slice::TimeSlice;

/// What there is to ask of partitions of this core, and of others by their core, in its order.
pub fn here_and_elsewhere<T>(
    shard: &Shard,
    questions: impl IntoIterator<Item = T>,
    id: impl Fn(&T) -> PartitionId,
) -> (Vec<T>, BTreeMap<CoreId, Vec<T>>) {
    let mut elsewhere: BTreeMap<CoreId, Vec<T>> = BTreeMap::new();
    let here = questions.into_iter().filter_map(|question| match shard.core_of(&id(&question)) {
        core if core == shard.core() => Some(question),
        core => {
            elsewhere.entry(core).or_default().push(question);
            None
        }
    });
    (here.collect(), elsewhere)
}

/// Asks the owner of each partition, on its core, whose shard it is given. The answer gets `None` where there is no such partition.
pub async fn ask<Q, A, F>(
    shard: &Rc<Shard>,
    questions: Vec<(PartitionId, Q)>,
    answer: impl Fn(Rc<Shard>, Option<Partition>, Q) -> F + Copy + Send + 'static,
) -> Vec<A>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = A> + 'static,
{
    let mut answers: Vec<Option<A>> = questions.iter().map(|_| None).collect();
    let (here, elsewhere) = here_and_elsewhere(shard, questions.into_iter().enumerate(), |(_, (id, _))| *id);
    let here = (!here.is_empty()).then_some((shard.core(), here));
    let asked = here.into_iter().chain(elsewhere).map(|(core, questions)| {
        shard.call(core, move |shard| async move {
            let (slice, mut answering) = (TimeSlice::of(shard.ring()), FuturesUnordered::new());
            let mut answers = Vec::with_capacity(questions.len());
            for (place, (id, question)) in questions {
                let mut one = Box::pin(answer(shard.clone(), shard.partition(&id), question));
                // Most need not wait for anything.
                match poll_immediate(&mut one).await {
                    Some(answer) => answers.push((place, answer)),
                    None => answering.push(async move { (place, one.await) }),
                }
                slice.pause().await;
            }
            while let Some(answer) = answering.next().await {
                answers.push(answer);
                slice.pause().await;
            }
            answers
        })
    });
    for (place, answer) in join_all(asked).await.into_iter().flatten() {
        answers[place] = Some(answer);
    }
    answers.into_iter().map(|answer| answer.expect("every question has an owner")).collect()
}

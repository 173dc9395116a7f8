//! A thread for system calls that may block: unlink, rename, truncate, directory scans, huge-page collapse.
//!
//! Jobs run one after the other in the order they came. The thread ends when the last handle is dropped.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Poll, Waker};

type Job = Box<dyn FnOnce() + Send>;

/// A handle to a helper thread; good on any core.
///
/// Its queue has no bound of its own: each job belongs to a task that waits for it, or closes a file.
#[derive(Debug, Clone)]
pub struct Helper {
    jobs: mpsc::Sender<Job>,
}

struct Answer<T> {
    value: Option<Result<T, Box<dyn Any + Send>>>,
    waker: Option<Waker>,
}

/// What a patient thread adds to its niceness (nice(2)): a tenth of a processor that a reactor wants, too.
const PATIENCE: libc::c_int = 10;

impl Helper {
    /// Starts the thread. `name` shows in process lists (15 bytes of it).
    pub fn start(name: &str) -> io::Result<Self> {
        Self::start_with(name, || {})
    }

    /// Starts a thread that leaves the processor to the reactors: its jobs are many at a time, and nobody is to wait for
    /// them who has nothing to do with them.
    pub fn start_patient(name: &str) -> io::Result<Self> {
        Self::start_with(name, || {
            // Of the calling thread alone, on Linux. To be nicer is never refused.
            // SAFETY: nice takes no pointers.
            unsafe { libc::nice(PATIENCE) };
        })
    }

    /// Starts a thread that runs while nothing else wants its processor (SCHED_IDLE, sched(7)), and leaves it at once to
    /// what does, unless a system call keeps it. Where the processors are never idle, its jobs are hardly done at all.
    pub fn start_idle(name: &str) -> io::Result<Self> {
        Self::start_with(name, || {
            let parameter = libc::sched_param { sched_priority: 0 };
            // Of the calling thread alone. Only a sandbox refuses to be asked for less: then it is like any other.
            // SAFETY: the parameter lives through the call.
            unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) };
        })
    }

    fn start_with(name: &str, before: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            before();
            while let Ok(job) = queue.recv() {
                job();
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs `job` on the thread and resolves to what it returned. A panic there continues here. The job is
    /// queued at once, and runs also when the future is dropped.
    pub fn run<T, J>(&self, job: J) -> impl Future<Output = T> + Send + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce() -> T + Send + 'static,
    {
        let answer = Arc::new(Mutex::new(Answer { value: None, waker: None }));
        let result = answer.clone();
        self.run_detached(move || {
            let value = catch_unwind(AssertUnwindSafe(job));
            let waker = {
                let mut answer = result.lock().unwrap_or_else(PoisonError::into_inner);
                answer.value = Some(value);
                answer.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        poll_fn(move |context| {
            let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
            match answer.value.take() {
                Some(Ok(value)) => Poll::Ready(value),
                Some(Err(panic)) => resume_unwind(panic),
                None => {
                    answer.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    /// Queues `job` without waiting for it.
    pub(crate) fn run_detached(&self, job: impl FnOnce() + Send + 'static) {
        let queued = self.jobs.send(Box::new(job));
        assert!(queued.is_ok(), "the helper thread lives as long as a handle to it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reactor, ReactorConfig};

    #[test]
    fn answers_come_back_to_a_sleeping_reactor() {
        let reactor = Reactor::new(ReactorConfig::default()).expect("a reactor");
        let helper = Helper::start("test-helper").expect("a thread");
        let (gate, opened) = mpsc::channel::<u32>();
        let waiting = helper.run(move || opened.recv().expect("a number"));
        let ring = reactor.ring();
        let sum = reactor.run(async move {
            let opener = std::thread::spawn(move || gate.send(40).expect("the helper waits"));
            let first = waiting.await;
            let second = helper.run(|| 2).await;
            opener.join().expect("no panic");
            ring.yield_now().await;
            first + second
        });
        assert_eq!(sum, 42);
    }

    #[test]
    fn a_patient_thread_is_nicer_than_whoever_starts_it() {
        // SAFETY: getpriority takes no pointers; 0 is the calling thread.
        let niceness = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let niceness_of = |helper: Helper| {
            let reactor = Reactor::new(ReactorConfig::default()).expect("a reactor");
            reactor.run(helper.run(niceness))
        };
        let own = niceness();
        assert_eq!(niceness_of(Helper::start("test-helper").expect("a thread")), own);
        // 19 is the nicest.
        let patient = Helper::start_patient("test-helper").expect("a thread");
        assert_eq!(niceness_of(patient), (own + PATIENCE).min(19));
        assert_eq!(niceness(), own, "nobody else is");
    }

    #[test]
    fn an_idle_thread_is_idle_alone() {
        // SAFETY: sched_getscheduler takes no pointers; 0 is the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let own = policy();
        let reactor = Reactor::new(ReactorConfig::default()).expect("a reactor");
        let helper = Helper::start_idle("test-helper").expect("a thread");
        assert_eq!(reactor.run(helper.run(policy)), libc::SCHED_IDLE);
        assert_eq!(policy(), own);
    }

    #[test]
    fn a_panic_of_a_job_continues_at_its_caller() {
        let reactor = Reactor::new(ReactorConfig::default()).expect("a reactor");
        let helper = Helper::start("test-helper").expect("a thread");
        let failing = helper.run(|| -> u32 { panic!("as told") });
        let outcome = catch_unwind(AssertUnwindSafe(|| reactor.run(failing)));
        assert!(outcome.is_err());
        assert_eq!(reactor.run(helper.run(|| 7)), 7, "the thread goes on");
    }
}

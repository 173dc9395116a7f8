//! The submission and completion queues of one core, and the table of operations under way.
//!
//! **Invariant:** whatever the kernel may still read or write is owned by the table's entry or by the future
//! that waits for it, until the completion has arrived. A future that is dropped early leaves its resources
//! here; when the whole driver goes, it cancels and waits for the rest, or leaks their memory.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use crate::error::{SetupError, check_kernel, kernel_release};

/// The completion of a request whose outcome nobody wants to know.
const NOBODY: u64 = u64::MAX;
/// The pending read of the core's doorbell.
const BELL: u64 = u64::MAX - 1;
/// Unclaimed results of one multishot operation before it is cancelled; its stream then starts it anew.
const STREAM_RESULTS_MAX: usize = 256;
/// How long the end of a driver waits for the kernel to let go of memory before it leaks that memory.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// What the kernel answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Completion {
    pub(crate) fn to_result(self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

/// Names one operation under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OperationKey {
    index: u32,
    generation: u32,
}

impl OperationKey {
    fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_user_data(user_data: u64) -> Self {
        Self { index: user_data as u32, generation: (user_data >> 32) as u32 }
    }
}

/// What becomes of an operation whose future is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OnDrop {
    /// Ask the kernel to cancel it.
    pub(crate) cancel: bool,
    /// A result ≥ 0 is a descriptor that has to be closed.
    pub(crate) close_result: bool,
}

enum State {
    Free,
    /// One completion is awaited.
    Waiting(Option<Waker>),
    Done(Completion),
    /// Multishot: completions that nobody has taken yet. `ended` when the kernel will send no more.
    Stream {
        results: VecDeque<Completion>,
        waker: Option<Waker>,
        ended: bool,
        cancelled: bool,
    },
    /// The future is gone; the kernel is not. Keeps what the kernel uses.
    Abandoned {
        resources: Box<dyn Any>,
        close_result: bool,
    },
}

struct Slot {
    generation: u32,
    state: State,
}

/// What is to be done outside the driver's borrow: wakers and destructors may call back into it.
#[derive(Default)]
pub(crate) struct Aftermath {
    wakers: Vec<Waker>,
    leftovers: Vec<Box<dyn Any>>,
    scratch: Vec<(u64, Completion)>,
}

impl Aftermath {
    pub(crate) fn run(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
        self.leftovers.clear();
    }
}

pub(crate) struct Driver {
    uring: IoUring,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Entries that did not fit in the submission queue. Each belongs to an operation that somebody waits
    /// for, so it is bounded by the tasks there are.
    backlog: VecDeque<squeue::Entry>,
    /// Of each entry in the submission queue, whether a disk does it.
    queued: VecDeque<bool>,
    bell: RawFd,
    bell_value: Box<u64>,
    bell_armed: bool,
}

/// Operations that one system call starts. A send takes microseconds, and a kernel that is not preempted in
/// system calls lets nobody else run on this core meanwhile: the worker of a flush among them, for which every
/// request waits.
const SUBMISSIONS_PER_CALL: usize = 8;

impl Driver {
    pub(crate) fn new(entries: u32, bell: RawFd) -> Result<Self, SetupError> {
        check_kernel(&kernel_release())?;
        let uring: IoUring = IoUring::builder()
            .dontfork()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(entries.saturating_mul(4))
            .build(entries)
            .map_err(|source| SetupError::from_setup(entries, source))?;
        let parameters = uring.params();
        if !(parameters.is_feature_nodrop()
            && parameters.is_feature_ext_arg()
            && parameters.is_feature_fast_poll())
        {
            return Err(SetupError::KernelTooOld { found: kernel_release() });
        }
        let mut driver = Self {
            uring,
            slots: Vec::new(),
            free: Vec::new(),
            backlog: VecDeque::new(),
            queued: VecDeque::new(),
            bell,
            bell_value: Box::new(0),
            bell_armed: false,
        };
        driver.arm_bell();
        Ok(driver)
    }

    fn arm_bell(&mut self) {
        let entry = opcode::Read::new(Fd(self.bell), (&raw mut *self.bell_value).cast(), 8).build();
        self.bell_armed = true;
        // SAFETY: the box lives as long as the driver, which waits for this read in its own drop; the bell's
        // descriptor outlives the driver (both are fields of the ring, the driver first).
        unsafe { self.push(entry.user_data(BELL)) };
    }

    /// # Safety
    /// Everything that `entry` points to lives until its completion.
    unsafe fn push(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() {
            // SAFETY: the caller's promise.
            if unsafe { self.queue(&entry) } {
                return;
            }
            self.enter(0, None);
            // SAFETY: the caller's promise.
            if unsafe { self.queue(&entry) } {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    /// Puts an entry into the submission queue, if there is room.
    ///
    /// # Safety
    /// As [`Driver::push`].
    unsafe fn queue(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the caller's promise.
        let is_queued = unsafe { self.uring.submission().push(entry) }.is_ok();
        if is_queued {
            self.queued.push_back(is_of_disk(entry));
        }
        is_queued
    }

    fn flush_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            // SAFETY: promised to `push` when the entry came.
            if !unsafe { self.queue(&entry) } {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    fn insert(&mut self, state: State) -> OperationKey {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.state = state;
            return OperationKey { index, generation: slot.generation };
        }
        // The topmost generations are never reached in the top index, so no key is NOBODY or BELL.
        let index = u32::try_from(self.slots.len()).expect("fewer operations than memory for them");
        self.slots.push(Slot { generation: 0, state });
        OperationKey { index, generation: 0 }
    }

    fn release(&mut self, key: OperationKey) {
        let slot = &mut self.slots[key.index as usize];
        slot.state = State::Free;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
    }

    fn slot(&mut self, key: OperationKey) -> &mut Slot {
        let slot = &mut self.slots[key.index as usize];
        assert_eq!(slot.generation, key.generation, "an operation's key is used while it is in the table");
        slot
    }

    /// Starts an operation of one completion.
    ///
    /// # Safety
    /// Everything that `entry` points to lives, at its address, until the completion was taken, or until the
    /// resources given to [`Driver::abandon`] are dropped.
    pub(crate) unsafe fn start(&mut self, entry: squeue::Entry) -> OperationKey {
        let key = self.insert(State::Waiting(None));
        // SAFETY: the caller's promise.
        unsafe { self.push(entry.user_data(key.user_data())) };
        key
    }

    /// Starts a multishot operation.
    ///
    /// # Safety
    /// As [`Driver::start`].
    pub(crate) unsafe fn start_stream(&mut self, entry: squeue::Entry) -> OperationKey {
        let state = State::Stream { results: VecDeque::new(), waker: None, ended: false, cancelled: false };
        let key = self.insert(state);
        // SAFETY: the caller's promise.
        unsafe { self.push(entry.user_data(key.user_data())) };
        key
    }

    /// Takes the completion if it has arrived, and forgets the operation; else `waker` will be woken.
    pub(crate) fn poll(&mut self, key: OperationKey, waker: &Waker) -> Option<Completion> {
        let slot = self.slot(key);
        match &mut slot.state {
            State::Done(completion) => {
                let completion = *completion;
                self.release(key);
                Some(completion)
            }
            State::Waiting(waiting) => {
                keep_waker(waiting, waker);
                None
            }
            _ => unreachable!("a key of a single operation names one"),
        }
    }

    /// The next completion of a stream. `Some(None)`: the kernel ended it, and it is forgotten.
    pub(crate) fn poll_stream(&mut self, key: OperationKey, waker: &Waker) -> Option<Option<Completion>> {
        let slot = self.slot(key);
        let State::Stream { results, waker: waiting, ended, .. } = &mut slot.state else {
            unreachable!("a key of a stream names one")
        };
        if let Some(completion) = results.pop_front() {
            return Some(Some(completion));
        }
        if *ended {
            self.release(key);
            return Some(None);
        }
        keep_waker(waiting, waker);
        None
    }

    /// The future of an operation is dropped. Gives back what can be dropped at once, outside the borrow.
    pub(crate) fn abandon(
        &mut self,
        key: OperationKey,
        resources: Box<dyn Any>,
        on_drop: OnDrop,
    ) -> Vec<Box<dyn Any>> {
        let slot = self.slot(key);
        let mut leftovers: Vec<Box<dyn Any>> = Vec::new();
        let under_way = match std::mem::replace(&mut slot.state, State::Free) {
            State::Waiting(waker) => {
                leftovers.push(Box::new(waker));
                true
            }
            State::Done(completion) => {
                if on_drop.close_result {
                    leftovers.extend(close_later(completion));
                }
                false
            }
            State::Stream { results, waker, ended, .. } => {
                leftovers.push(Box::new(waker));
                if on_drop.close_result {
                    leftovers.extend(results.into_iter().filter_map(close_later));
                }
                !ended
            }
            State::Free | State::Abandoned { .. } => unreachable!("a future abandons its operation once"),
        };
        if under_way {
            self.slot(key).state = State::Abandoned { resources, close_result: on_drop.close_result };
            if on_drop.cancel {
                self.cancel(key);
            }
        } else {
            self.release(key);
            leftovers.push(resources);
        }
        leftovers
    }

    /// Asks the kernel to cancel an operation; it completes as any other. One that has ended is no matter.
    pub(crate) fn cancel(&mut self, key: OperationKey) {
        let entry = opcode::AsyncCancel::new(key.user_data()).build().user_data(NOBODY);
        // SAFETY: a cancellation points to nothing.
        unsafe { self.push(entry) };
    }

    /// Asks the kernel to cancel every operation on `descriptor`.
    pub(crate) fn cancel_descriptor(&mut self, descriptor: &Rc<OwnedFd>) {
        let key =
            self.insert(State::Abandoned { resources: Box::new(descriptor.clone()), close_result: false });
        let raw = descriptor.as_raw_fd();
        let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(raw)).all()).build();
        // SAFETY: a cancellation points to nothing; the table keeps the descriptor open until it is done.
        unsafe { self.push(entry.user_data(key.user_data())) };
    }

    /// Whether a system call is due although nobody wants to wait.
    fn wants_enter(&mut self) -> bool {
        let submission = self.uring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    /// Submits what is queued. With `wait`, sleeps until a completion, the doorbell or the deadline.
    pub(crate) fn turn(&mut self, wait: bool, deadline: Option<Instant>, aftermath: &mut Aftermath) {
        if !self.bell_armed {
            self.arm_bell();
        }
        self.flush_backlog();
        let wait = wait && self.backlog.is_empty() && self.uring.completion().is_empty();
        if wait {
            let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            self.enter(1, timeout);
        } else if self.wants_enter() {
            self.enter(0, None);
        }
        self.reap(aftermath);
    }

    /// `io_uring_enter`, as often as it takes. What it could not submit stays queued for the next time.
    fn enter(&mut self, minimum: u32, timeout: Option<Duration>) {
        let mut left = self.queued.len();
        loop {
            let call = call_length(&self.queued);
            if call == left {
                break;
            }
            self.enter_once(call, 0, None);
            if self.queued.len() == left {
                break;
            }
            left = self.queued.len();
        }
        self.enter_once(left, minimum, timeout);
    }

    fn enter_once(&mut self, to_submit: usize, minimum: u32, timeout: Option<Duration>) {
        let to_submit = u32::try_from(to_submit).expect("a submission queue has fewer than 2³² entries");
        // Deferred work (completions) is only done by a call with GETEVENTS.
        let mut flags = EnterFlags::GETEVENTS;
        if self.uring.params().is_feature_no_iowait() {
            // An idle core waits for requests, not for a disk: keep it out of the machine's iowait.
            flags |= EnterFlags::NO_IOWAIT;
        }
        let submitter = self.uring.submitter();
        let result = match timeout {
            // SAFETY: no argument is passed; the entries' own pointers were promised to `push`.
            None => unsafe { submitter.enter::<libc::sigset_t>(to_submit, minimum, flags.bits(), None) },
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                let arguments = SubmitArgs::new().timespec(&timespec);
                flags |= EnterFlags::EXT_ARG;
                // SAFETY: EXT_ARG goes with a `SubmitArgs`, which lives over the call, as does its timespec.
                unsafe { submitter.enter(to_submit, minimum, flags.bits(), Some(&arguments)) }
            }
        };
        if let Err(error) = result {
            match error.raw_os_error() {
                // A signal; the deadline; no memory for a request just now; completions must be taken first.
                Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY) => {}
                _ => panic!("io_uring_enter on a ring of this thread: {error}"),
            }
        }
        let left = self.uring.submission().len();
        self.queued.drain(..self.queued.len() - left);
    }

    fn reap(&mut self, aftermath: &mut Aftermath) {
        let mut completions = std::mem::take(&mut aftermath.scratch);
        completions.extend(
            self.uring.completion().map(|entry| {
                (entry.user_data(), Completion { result: entry.result(), flags: entry.flags() })
            }),
        );
        for (user_data, completion) in completions.drain(..) {
            match user_data {
                NOBODY => {}
                BELL => {
                    self.bell_armed = false;
                }
                _ => self.complete(OperationKey::from_user_data(user_data), completion, aftermath),
            }
        }
        aftermath.scratch = completions;
    }

    fn complete(&mut self, key: OperationKey, completion: Completion, aftermath: &mut Aftermath) {
        let more = cqueue::more(completion.flags);
        let slot = self.slot(key);
        let mut cancel = false;
        match &mut slot.state {
            State::Waiting(waker) => {
                aftermath.wakers.extend(waker.take());
                slot.state = State::Done(completion);
            }
            State::Stream { results, waker, ended, cancelled } => {
                aftermath.wakers.extend(waker.take());
                *ended = !more;
                results.push_back(completion);
                if results.len() >= STREAM_RESULTS_MAX && more && !*cancelled {
                    *cancelled = true;
                    cancel = true;
                }
            }
            State::Abandoned { close_result, .. } => {
                if *close_result {
                    aftermath.leftovers.extend(close_later(completion));
                }
                if !more {
                    if let State::Abandoned { resources, .. } =
                        std::mem::replace(&mut slot.state, State::Free)
                    {
                        aftermath.leftovers.push(resources);
                    }
                    self.release(key);
                }
            }
            State::Done(_) | State::Free => unreachable!("one operation completes once"),
        }
        if cancel {
            self.cancel(key);
        }
    }

    fn under_way(&self) -> usize {
        let waits = |slot: &&Slot| {
            matches!(slot.state, State::Waiting(_) | State::Abandoned { .. })
                || matches!(slot.state, State::Stream { ended: false, .. })
        };
        self.slots.iter().filter(waits).count() + usize::from(self.bell_armed)
    }
}

impl Drop for Driver {
    /// Cancels what is under way and waits for the kernel to let go of its memory.
    fn drop(&mut self) {
        let mut aftermath = Aftermath::default();
        let deadline = Instant::now() + DRAIN_PATIENCE;
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
        while self.under_way() > 0 && Instant::now() < deadline {
            self.flush_backlog();
            // SAFETY: a cancellation points to nothing.
            unsafe { self.push(entry.clone().user_data(NOBODY)) };
            self.flush_backlog();
            self.enter(1, Some(Duration::from_millis(100)));
            self.reap(&mut aftermath);
            // Wakers are of no use now; destructors of resources may run.
            aftermath.wakers.clear();
            aftermath.leftovers.clear();
        }
        if self.under_way() > 0 {
            // The kernel may still write there: leaking is the only sound way.
            for slot in self.slots.drain(..) {
                std::mem::forget(slot.state);
            }
            std::mem::forget(std::mem::replace(&mut self.bell_value, Box::new(0)));
        }
    }
}

/// Whether a disk does it: nothing else is read and written, but for the bell.
fn is_of_disk(entry: &squeue::Entry) -> bool {
    let code = entry.get_opcode();
    (code == u32::from(opcode::Read::CODE) || code == u32::from(opcode::Write::CODE))
        && entry.get_user_data() != BELL
}

/// How many of the queued operations the next system call starts. What disks do is handed to them when a call of
/// several operations returns (the kernel collects it to merge neighbours), so none that takes its time on this core
/// follows in the same call.
fn call_length(queued: &VecDeque<bool>) -> usize {
    let next_is_other = |at: usize| queued.get(at + 1).is_some_and(|of_disk| !of_disk);
    let most = queued.len().min(SUBMISSIONS_PER_CALL);
    let cut = (0..most).find(|at| queued[*at] && next_is_other(*at));
    cut.map_or(most, |at| at + 1)
}

fn keep_waker(kept: &mut Option<Waker>, waker: &Waker) {
    match kept {
        Some(kept) => kept.clone_from(waker),
        None => *kept = Some(waker.clone()),
    }
}

/// The descriptor that an abandoned operation returned, in a box whose drop closes it.
fn close_later(completion: Completion) -> Option<Box<dyn Any>> {
    if completion.result < 0 {
        return None;
    }
    // SAFETY: the kernel made this descriptor for the operation, and nobody else was told of it.
    Some(Box::new(unsafe { OwnedFd::from_raw_fd(completion.result as RawFd) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_disks_do_is_not_kept_waiting_by_what_follows() {
        let length = |queued: &str| call_length(&queued.chars().map(|kind| kind == 'd').collect());
        let cases = [
            ("", 0),
            ("s", 1),
            ("d", 1),
            ("dss", 1),
            ("sdss", 2),
            ("sddds", 4),
            ("ddd", 3),
            ("ssssssssss", SUBMISSIONS_PER_CALL),
            ("dddddddddd", SUBMISSIONS_PER_CALL),
            ("sssssssds", SUBMISSIONS_PER_CALL),
        ];
        for (queued, wanted) in cases {
            assert_eq!(length(queued), wanted, "{queued}");
        }
    }
}

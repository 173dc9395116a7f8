//! Every interleaving of a sender and a receiver that goes to sleep.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering, fence};
use loom::thread;

use super::queue::queue;
use crate::buffer::Region;
use crate::doorbell::SleepFlag;

#[test]
fn values_pass_in_order_and_once() {
    loom::model(|| {
        let (producer, consumer) = queue::<Box<u32>>(2);
        let sender = thread::spawn(move || {
            for number in 0..3 {
                let mut value = Box::new(number);
                while let Err(back) = producer.push(value) {
                    value = back;
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 3 {
            match consumer.pop() {
                Some(value) => {
                    assert_eq!(*value, expected);
                    expected += 1;
                }
                None => thread::yield_now(),
            }
        }
        sender.join().expect("no panic");
        assert!(consumer.pop().is_none());
    });
}

#[test]
fn values_left_behind_are_dropped() {
    loom::model(|| {
        let (producer, consumer) = queue::<Arc<()>>(2);
        let value = Arc::new(());
        let copy = value.clone();
        let sender = thread::spawn(move || {
            let _ = producer.push(copy.clone());
            let _ = producer.push(copy);
        });
        drop(consumer.pop());
        drop(consumer);
        sender.join().expect("no panic");
        assert_eq!(Arc::strong_count(&value), 1);
    });
}

/// The reactor announces its sleep and looks again; the sender publishes and looks at the flag. If the reactor
/// did go to sleep on an empty queue, then the sender must have seen it and rung.
#[test]
fn no_message_is_left_behind_a_sleeper() {
    loom::model(|| {
        let (producer, consumer) = queue::<u32>(2);
        let flag = Arc::new(SleepFlag::new());
        let rung = Arc::new(AtomicBool::new(false));
        let sender = thread::spawn({
            let (flag, rung) = (flag.clone(), rung.clone());
            move || {
                producer.push(1).expect("there is room");
                if flag.take_sleeper() {
                    rung.store(true, Ordering::Release);
                }
                producer.push(2).expect("there is room");
                if flag.take_sleeper() {
                    rung.store(true, Ordering::Release);
                }
            }
        });
        flag.announce();
        let slept = consumer.is_empty();
        if !slept {
            flag.awake();
        }
        sender.join().expect("no panic");
        if slept {
            assert!(rung.load(Ordering::Acquire), "asleep, and nobody rang");
        }
        assert_eq!((consumer.pop(), consumer.pop()), (Some(1), Some(2)));
    });
}

/// The way back: a sender that found no room says so and looks again; the receiver frees a slot and looks.
#[test]
fn no_sender_is_left_waiting_for_room() {
    loom::model(|| {
        let (producer, consumer) = queue::<u32>(1);
        producer.push(1).expect("there is room");
        let waits = Arc::new(AtomicBool::new(false));
        let woken = Arc::new(AtomicBool::new(false));
        let receiver = thread::spawn({
            let (waits, woken) = (waits.clone(), woken.clone());
            move || {
                assert_eq!(consumer.pop(), Some(1));
                fence(Ordering::SeqCst);
                if waits.load(Ordering::Relaxed) && waits.swap(false, Ordering::AcqRel) {
                    woken.store(true, Ordering::Release);
                }
            }
        });
        waits.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let slept = producer.is_full();
        receiver.join().expect("no panic");
        if slept {
            assert!(woken.load(Ordering::Acquire), "waiting, and nobody looked");
        }
    });
}

/// A region is emptied only when no slice of it is alive on any thread.
#[test]
fn a_region_is_cleared_behind_its_last_slice() {
    loom::model(|| {
        let mut region = Region::on_heap(4096);
        let slice = region.append(&[7; 8]);
        let reader = thread::spawn(move || {
            assert_eq!(*slice, [7; 8]);
            let part = slice.slice(2..4);
            drop(slice);
            assert_eq!(*part, [7; 2]);
        });
        let second = region.append(&[8; 8]);
        assert_eq!(*second, [8; 8]);
        drop(second);
        if region.try_clear() {
            region.append(&[9; 16]);
        }
        reader.join().expect("no panic");
        assert!(region.try_clear());
    });
}

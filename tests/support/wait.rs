//! Waiting for what happens in its own time, with an end.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Long for a machine with 2 busy cores; what must be fast is measured, not waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again until `look` says `Ok`; panics with the last `Err` when patience is over.
pub fn eventually<T, E: Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() > PATIENCE => {
                panic!("{what}: not within {PATIENCE:?}; last seen: {seen:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Panics when `look` says anything but `Ok` within `span`: for what must not happen.
pub fn throughout<E: Debug>(what: &str, span: Duration, mut look: impl FnMut() -> Result<(), E>) {
    let start = Instant::now();
    while start.elapsed() < span {
        if let Err(seen) = look() {
            panic!("{what}: not so after {:?}: {seen:?}", start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

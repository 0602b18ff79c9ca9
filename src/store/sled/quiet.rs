//! What becomes of panics: those that are awaited are reported by who awaited them instead of by
//! the panic hook, and one that ends a thread of the store is told to the whole process.
//!
//! sled asserts what it expects of its files. A damaged one must end in a sentence that says what
//! to do, not in a panic's report on stderr.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use tokio::sync::watch;

use crate::store::Health;

thread_local! {
    /// Whether a panic of this thread is awaited.
    static AWAITED: Cell<bool> = const { Cell::new(false) };
}

/// The hook that looks at it is put in front of the process's own, once.
static HOOK: Once = Once::new();

/// What `work` gives, or the first line of what it said when it panicked. Panics of other threads
/// are reported as ever.
pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !AWAITED.get() {
                report(panic);
            }
        }));
    });
    let before = AWAITED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    AWAITED.set(before);
    result.map_err(|panic| first_line(&*panic))
}

fn first_line(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// A panic in one of the store's threads must not look like silence.
pub(super) struct PanicGuard(pub(super) watch::Sender<Health>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let poisoned = Some("one of the store's threads panicked".to_owned());
            self.0.send_modify(|health| health.poisoned = poisoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_first_line_of_what_it_said() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| -> u8 { panic!("short") }), Err("short".to_owned()));
        let number = 3;
        assert_eq!(catch(|| -> u8 { panic!("line {number}\nand more") }), Err("line 3".to_owned()));
        assert!(!AWAITED.get());
    }
}

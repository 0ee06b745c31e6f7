//! Panics of others, turned into values.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Calls of [`quietly`] on this thread.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs something that may panic; gives the panic's first line instead. Nothing is printed about it, since it is
/// reported: the process's panic hook, whichever it was at the first call, is passed over for these panics alone.
pub(crate) fn quietly<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if DEPTH.with(Cell::get) == 0 {
                usual(info);
            }
        }));
    });
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    result.map_err(|panic| first_line(&*panic))
}

fn first_line(panic: &(dyn Any + Send)) -> String {
    /// Enough to recognise a message by, in characters.
    const MAX_CHARS: usize = 120;
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given");
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(MAX_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_first_line() {
        assert_eq!(quietly(|| 5), Ok(5));
        assert_eq!(
            quietly(|| -> u32 { panic!("one\ntwo {}", 3) }),
            Err("one".to_owned())
        );
        assert_eq!(
            quietly(|| quietly(|| panic!("inner"))),
            Ok(Err("inner".to_owned()))
        );
        assert_eq!(DEPTH.with(Cell::get), 0);
    }
}

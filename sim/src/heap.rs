//! Counts the live bytes of the heap by who asked for them: the parts of the product, and the made-up world apart.
//!
//! Lives here: an allocator for the simulator's programs, which set [`Counting`] as theirs. Must not live here: what
//! is too much. Invariant: a block counts for the owner it was asked for by until it is given back, whoever gives it back.
//!
//! The counts are of one thread: a world never leaves the thread it was made on.
#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Who asks for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The made-up world: links, disks, stories, the truth.
    World,
    /// The server.
    Server,
    /// The sessions.
    Session,
    /// The timelines.
    Page,
    /// What is made only to see how large it is.
    Scratch,
}

const OWNERS: usize = 5;

thread_local! {
    static OWNER: Cell<Owner> = const { Cell::new(Owner::World) };
    static LIVE: [Cell<isize>; OWNERS] = const { [const { Cell::new(0) }; OWNERS] };
}

/// The system's allocator, with a note before each block.
#[derive(Debug)]
pub struct Counting;

/// Returns how many bytes an owner has on this thread, notes not counted; zero in a program without [`Counting`].
#[must_use]
pub fn live(owner: Owner) -> usize {
    LIVE.with(|live| live[owner as usize].get()).max(0) as usize
}

/// Does something for an owner.
pub(crate) fn of<T>(owner: Owner, work: impl FnOnce() -> T) -> T {
    /// Puts the owner before back, also when the work panics.
    struct Back(Owner);
    impl Drop for Back {
        fn drop(&mut self) {
            OWNER.set(self.0);
        }
    }
    let _back = Back(OWNER.replace(owner));
    work()
}

fn count(owner: usize, bytes: isize) {
    // A thread that is ending counts no more.
    let _ = LIVE.try_with(|live| {
        if let Some(live) = live.get(owner) {
            live.set(live.get() + bytes);
        }
    });
}

/// Returns how long the note before a block is, so that the block is still aligned.
const fn note(layout: Layout) -> usize {
    if layout.align() > 8 { layout.align() } else { 8 }
}

fn with_note(layout: Layout, size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(note(layout))?, layout.align().max(8)).ok()
}

// SAFETY: every block is one of the system's that is `note` bytes longer and as much aligned. What is handed out begins
// behind the note, which is a multiple of the alignment, and what comes back is turned into the system's again with the
// layout it was made with, which is a function of the layout given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(whole) = with_note(layout, layout.size()) else { return std::ptr::null_mut() };
        let owner = OWNER.try_with(Cell::get).unwrap_or(Owner::World) as usize;
        // SAFETY: the size is not zero, the note being part of it. The note is inside the block and aligned for a u64.
        unsafe {
            let base = System.alloc(whole);
            if base.is_null() {
                return base;
            }
            count(owner, layout.size() as isize);
            base.cast::<u64>().write(owner as u64);
            base.add(note(layout))
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(whole) = with_note(layout, layout.size()) else { return };
        // SAFETY: `block` came from `alloc` or `realloc` with this layout, so its note is before it.
        unsafe {
            let base = block.sub(note(layout));
            count(base.cast::<u64>().read() as usize, -(layout.size() as isize));
            System.dealloc(base, whole);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (Some(whole), Some(wanted)) = (with_note(layout, layout.size()), with_note(layout, new_size)) else {
            return std::ptr::null_mut();
        };
        // SAFETY: as for `dealloc`; the note moves with the block.
        unsafe {
            let base = block.sub(note(layout));
            let owner = base.cast::<u64>().read() as usize;
            let moved = System.realloc(base, whole, wanted.size());
            if moved.is_null() {
                return moved;
            }
            count(owner, new_size as isize - layout.size() as isize);
            moved.add(note(layout))
        }
    }
}

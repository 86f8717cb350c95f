//! The first start, where the disk has no room for it.
//!
//! Must not live here: starts over what is there already (`log_contract`). Invariant: the disk does what the test says.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use server::ServerError;
use server::ambient::System;
use server::log::{
    self, Disk, GENERAL, LogHandle, LogOptions, Record, Replica, Stepper, StorageError, StorageErrorKind, TextHash,
};
use shared::ids::Epoch;

/// A disk that is full as long as it is told to be.
#[derive(Clone, Default)]
struct Filling(Arc<AtomicBool>);

impl Disk for Filling {
    fn write(&mut self, _: &Record) -> Result<(), StorageError> {
        self.probe()
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn probe(&mut self) -> Result<(), StorageError> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(StorageError { kind: StorageErrorKind::Full, message: "no room".into() }),
            false => Ok(()),
        }
    }
}

async fn bootstrap(log: &LogHandle, writer: &mut Stepper) -> Result<(), ServerError> {
    let mut starting = pin!(server::bootstrap(log, &System));
    std::future::poll_fn(|context| {
        let polled = starting.as_mut().poll(context);
        writer.step().unwrap();
        if polled.is_pending() { starting.as_mut().poll(context) } else { polled }
    })
    .await
}

#[tokio::test]
async fn a_server_does_not_serve_without_the_room_everybody_enters() {
    let disk = Filling::default();
    let replica = Replica::new(Epoch::from_bytes([1; 16]), TextHash::PLAIN);
    let options = LogOptions::default();
    let (log, mut writer) = log::open_stepped(replica, Box::new(disk.clone()), &options, |_: &log::Published| {});
    disk.0.store(true, Ordering::Relaxed);
    let error = bootstrap(&log, &mut writer).await.expect_err("it serves, and whoever signs in is refused");
    assert!(matches!(&error, ServerError::Bootstrap(words) if words.contains("disk is full")), "{error}");
    disk.0.store(false, Ordering::Relaxed);
    bootstrap(&log, &mut writer).await.unwrap();
    disk.0.store(true, Ordering::Relaxed);
    bootstrap(&log, &mut writer).await.expect("it was made before, and reads go on");
    assert!(log.read(|reads| reads.head(GENERAL)).await.unwrap().is_some());
}

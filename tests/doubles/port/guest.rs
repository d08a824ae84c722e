//! The guest's end of the model: the device that a port opens.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Sleep;

use super::driver::Wrote;
use super::{ModelPort, Shared};
use infiniservice::internals::port::WINDOW_BYTES;
use infiniservice::internals::port::{Device, HostPresence, NotOpen, Opener, Received, Sent};

/// As the real device's: how soon a write that returned 0 is tried again.
const ZERO_RETRY: Duration = Duration::from_secs(1);

struct ModelDevice {
    shared: Shared,
    plug: u64,
    retry: Option<Pin<Box<Sleep>>>,
}

impl Opener for ModelPort {
    fn name(&self) -> String {
        "model".to_owned()
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Device>, NotOpen>> {
        let shared = self.0.clone();
        async move { open(shared).map(|device| Box::new(device) as Box<dyn Device>) }.boxed()
    }
}

fn open(shared: Shared) -> Result<ModelDevice, NotOpen> {
    let mut driver = shared.lock();
    driver.tries.opens += 1;
    if !driver.qemu.is_plugged {
        return Err(NotOpen::Absent("there is no port \"model\" yet".to_owned()));
    }
    if driver.is_held || driver.is_open {
        return Err(NotOpen::Busy("another process holds port \"model\"; only one may".to_owned()));
    }
    driver.open();
    let plug = driver.plug;
    drop(driver);
    Ok(ModelDevice { shared, plug, retry: None })
}

impl Drop for ModelDevice {
    fn drop(&mut self) {
        let mut driver = self.shared.lock();
        if driver.plug == self.plug {
            driver.close();
        }
    }
}

impl Device for ModelDevice {
    fn read(&mut self, into: &mut [u8]) -> io::Result<Received> {
        let mut driver = self.shared.lock();
        driver.tries.reads += 1;
        if driver.plug != self.plug {
            return Ok(Received::Gone);
        }
        if std::mem::take(&mut driver.fails_once) {
            return Err(io::Error::other("a fault without a name"));
        }
        Ok(driver.read(into))
    }

    fn write(&mut self, from: &[u8]) -> io::Result<Sent> {
        let mut driver = self.shared.lock();
        driver.tries.writes += 1;
        if driver.plug != self.plug {
            return Ok(Sent::Gone);
        }
        Ok(match driver.write(from) {
            Wrote::Sent(sent) => sent,
            Wrote::Zero => {
                self.retry = Some(Box::pin(tokio::time::sleep(ZERO_RETRY)));
                Sent::Full
            }
        })
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut driver = self.shared.lock();
        driver.tries.waits += 1;
        if self.retry.as_mut().is_some_and(|retry| retry.as_mut().poll(cx).is_ready()) {
            self.retry = None;
            return Poll::Ready(Ok(()));
        }
        if std::mem::take(&mut driver.has_changed) {
            return Poll::Ready(Ok(()));
        }
        driver.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn window(&self) -> Option<usize> {
        Some(WINDOW_BYTES)
    }

    fn level(&self) -> io::Result<Option<HostPresence>> {
        Ok(Some(self.shared.lock().level(self.plug)))
    }
}

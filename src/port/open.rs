//! Opens the device of a target, one try for each call.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::device::{Device, NotOpen, Opener};
use super::{Target, discovery, linux, stdio, unix, vsock};

impl Opener for Target {
    fn name(&self) -> String {
        self.to_string()
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Device>, NotOpen>> {
        let name = self.to_string();
        async move {
            Ok(match self.clone() {
                Self::Name(port) => {
                    boxed(linux::open_on_pool(move || discovery::find(&port), name).await?)
                }
                Self::Path(path) => boxed(linux::open_on_pool(move || Some(path), name).await?),
                Self::Unix(path) => boxed(unix::connect(&path).await?),
                Self::Vsock { cid, port } => boxed(vsock::connect(cid, port).await?),
                Self::Stdio => boxed(stdio::open()?),
            })
        }
        .boxed()
    }

    fn appears(&mut self) -> BoxFuture<'_, ()> {
        match self {
            Self::Unix(path) => unix::appears(path).boxed(),
            Self::Name(_) | Self::Path(_) | Self::Vsock { .. } | Self::Stdio => {
                std::future::pending().boxed()
            }
        }
    }
}

fn boxed(device: impl Device + 'static) -> Box<dyn Device> {
    Box::new(device)
}

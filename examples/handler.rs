//! A command handler: requests in, replies out, two at once; every request gets a reply.
//! `cargo run --example handler`
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use infiniservice::prelude::*;

#[derive(Clone)]
struct Request(u64);
impl EventCount for Request {}
#[derive(Clone)]
struct Reply(u64, String);
impl EventCount for Reply {}
struct Requests(u64);
impl Source for Requests {
    type Out = Request;
    fn open(&mut self) -> impl Stream<Item = Result<Request, StageError>> + Send + '_ {
        stream::iter(0..std::mem::take(&mut self.0)).map(|id| Ok(Request(id)))
    }
}

/// Divides a hundred by the request's id; dividing by zero panics, and that is a reply too.
struct Divide;
impl Handler for Divide {
    type In = Request;
    type Out = Reply;
    type Key = u64;
    fn key(&self, request: &Request) -> u64 {
        request.0
    }
    fn handle(self: Arc<Self>, Request(id): Request) -> BoxStream<'static, Reply> {
        stream::once(async move { Reply(id, (100 / id).to_string()) }).boxed()
    }
    fn refuse(&self, Request(id): Request) -> Vec<Reply> {
        vec![Reply(id, "too many requests wait".to_owned())]
    }
    fn broken(&self, id: u64, panic: &str) -> Vec<Reply> {
        vec![Reply(id, panic.to_owned())]
    }
}

/// Sends five requests.
#[tokio::main(flavor = "current_thread")]
pub async fn main() {
    let context = Context::new("example", &StatsRegistry::default(), &CancellationToken::new());
    let limit = ConcurrencyLimit::new(ConcurrencyLimits { parallel: 2, waiting: 16 });
    let (graph, mut replies) = Pipeline::from_sources(&context, [Requests(5)], 4)
        .handle(Divide, &limit, 8)
        .hand_to("replies", String::new(), 8);
    graph.run(&Restart::default(), &context.stop, Duration::from_secs(5)).await;
    let mut answered = std::collections::BTreeMap::new();
    while let Some(Reply(id, text)) = replies.recv().await {
        println!("request {id}: {text}");
        assert!(answered.insert(id, text).is_none(), "one reply for each");
    }
    assert!(answered.len() == 5 && answered[&0].contains("zero") && answered[&4] == "25");
}

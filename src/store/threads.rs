//! The threads of the engine on disk: one writes queued requests in groups, one reads.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::engine::{Accepted, Engine};
use super::lock::{self, DirLock};
use super::presence::Presence;
use super::request::{CommitError, Read, ReadRequest, StoreReadError, Write, WriteRequest};
use super::sqlite::{self, Cancel, OpenError, Opened};
use super::status::{StateHealth, StoreStatus};
use super::writer::{CHECK, CloseError, Writer};
use crate::clock;

/// Two groups: one is written while the next one forms. A full queue blocks callers, so that a slow disk slows them down
/// instead of filling the memory.
const WRITES: usize = 2 * GROUP;

/// The most writes in one transaction. More would not be faster, and would delay the first one.
const GROUP: usize = 256;

/// A read takes about a millisecond, and there are few callers.
const READS: usize = 64;

/// A message to the writing thread.
#[derive(Debug)]
enum Order {
    Write(WriteRequest),
    Close,
}

/// A message to the reading thread.
#[derive(Debug)]
enum Question {
    /// A read, with the time of its request.
    Read(Read, Timestamp),
    Close,
}

/// The queues of both threads.
#[derive(Debug, Clone)]
pub(super) struct Queues {
    orders: mpsc::Sender<Order>,
    questions: mpsc::Sender<Question>,
    status: Arc<StoreStatus>,
}

impl Engine for Queues {
    fn write(&self, request: WriteRequest) -> Accepted<'_, CommitError> {
        Box::pin(async {
            let sent = self.orders.send(Order::Write(request)).await;
            sent.map_err(|_| CommitError::Closed)
        })
    }

    fn read(&self, request: ReadRequest) -> Accepted<'_, StoreReadError> {
        Box::pin(async {
            let sent = self
                .questions
                .send(Question::Read(request.0, clock::wall()))
                .await;
            sent.map_err(|_| StoreReadError::Closed)
        })
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.status.changed()
    }

    fn is_writable(&self) -> bool {
        self.status.is_writable()
    }

    fn health(&self) -> StateHealth {
        self.status.health()
    }
}

/// The threads of an open store.
#[derive(Debug)]
#[must_use = "a store that is not closed is checked at the next start"]
pub struct StoreThreads {
    queues: Queues,
    writer: JoinHandle<Result<(), CloseError>>,
    reader: JoinHandle<()>,
}

impl StoreThreads {
    /// Writes queued requests, closes the file, and records that it was closed in order. Later requests fail with `Closed`.
    pub async fn close(self) -> Result<(), CloseError> {
        // The writer closes last, because the last connection cleans up the files.
        let _ = self.queues.questions.send(Question::Close).await;
        join(self.reader).await?;
        let _ = self.queues.orders.send(Order::Close).await;
        join(self.writer).await?
    }
}

async fn join<T: Send + 'static>(thread: JoinHandle<T>) -> Result<T, CloseError> {
    tokio::task::spawn_blocking(|| thread.join())
        .await
        .map_err(|_| CloseError::Panicked)?
        .map_err(|_| CloseError::Panicked)
}

/// Stops the opening thread when its caller is dropped.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Opens the state in `dir` and starts its threads. Dropping this future stops the opening, and shortly after releases the
/// lock.
pub(super) async fn start(
    dir: PathBuf,
    stop: &CancellationToken,
) -> Result<(Queues, StoreThreads), OpenError> {
    let status = Arc::<StoreStatus>::default();
    let cancel = Cancel::default();
    let _cancel_on_drop = CancelOnDrop(cancel.clone());
    // Built here, so that a failure is an error of the start.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(OpenError::Thread)?;
    let (orders, order_queue) = mpsc::channel(WRITES);
    let (questions, question_queue) = mpsc::channel(READS);
    let (opened, opening) = oneshot::channel();
    let of_queues = Arc::clone(&status);
    let asked = cancel.clone();
    let writer = spawn("state-writer", move || {
        let Opened {
            database,
            reader,
            lock,
            file,
            damaged,
        } = match sqlite::open(&dir, &asked) {
            Ok(opened_state) => opened_state,
            Err(error) => {
                // The caller may have been dropped.
                let _ = opened.send(Err(error));
                return Ok(());
            }
        };
        let mut writer = Writer::new(database, status);
        writer.note_damage(&damaged);
        match Presence::of(&file, (&dir.join(lock::FILE), lock.file())) {
            Ok(presence) => writer.watch_presence(presence),
            Err(source) => {
                let _ = opened.send(Err(OpenError::Directory { dir, source }));
                return Ok(());
            }
        }
        if opened.send(Ok(reader)).is_err() {
            return finish(writer, lock, &file);
        }
        write(writer, lock, &file, &runtime, order_queue)
    })?;
    let mut opening = opening;
    let opened = tokio::select! {
        biased;
        opened = &mut opening => opened,
        () = stop.cancelled() => {
            cancel.set();
            opening.await
        }
    };
    // The thread always answers unless it panics.
    let database = match opened {
        Ok(result) => result?,
        Err(_) => return Err(OpenError::Thread(io::Error::other("it panicked"))),
    };
    let to_writer = orders.clone();
    let reader = spawn("state-reader", move || {
        let mut queue: mpsc::Receiver<Question> = question_queue;
        while let Some(Question::Read(read, at)) = queue.blocking_recv() {
            let rows = database.answer(read);
            if !rows.is_empty() {
                let (reply, _) = oneshot::channel();
                let write = Write::Damaged { rows, at };
                // With a full queue, the next reader finds the rows again.
                let _ = to_writer.try_send(Order::Write(WriteRequest { write, reply }));
            }
        }
    })?;
    let queues = Queues {
        orders,
        questions,
        status: of_queues,
    };
    let threads = StoreThreads {
        queues: queues.clone(),
        writer,
        reader,
    };
    Ok((queues, threads))
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, OpenError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(OpenError::Thread)
}

/// Runs the writing thread.
fn write(
    mut writer: Writer,
    lock: DirLock,
    file: &Path,
    runtime: &tokio::runtime::Runtime,
    mut queue: mpsc::Receiver<Order>,
) -> Result<(), CloseError> {
    let mut orders = Vec::with_capacity(GROUP);
    loop {
        // Takes all that is queued. Waits only while the queue is empty.
        let received = runtime
            .block_on(async { tokio::time::timeout(CHECK, queue.recv_many(&mut orders, GROUP)).await });
        let mut closing = received == Ok(0);
        let mut requests = Vec::with_capacity(orders.len());
        for order in orders.drain(..) {
            match order {
                Order::Write(request) => requests.push(request),
                Order::Close => {
                    closing = true;
                    // Earlier messages are still received.
                    queue.close();
                }
            }
        }
        if !requests.is_empty() {
            writer.write(requests);
        }
        writer.check();
        if closing && queue.is_empty() {
            return finish(writer, lock, file);
        }
    }
}

fn finish(writer: Writer, lock: DirLock, file: &Path) -> Result<(), CloseError> {
    writer.close()?;
    lock.release(file)
        .map_err(|error| CloseError::Failed(error.to_string()))
}

//! The two threads of the engine on disk: one writes what queues up in groups, one answers questions.

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
use super::request::{CommitError, Read, ReadError, ReadRequest, Write, WriteRequest};
use super::sqlite::{self, Cancel, OpenError, Opened};
use super::status::{StateHealth, Status};
use super::writer::{LOOK, Writer};
use crate::clock;

/// Two groups: one is written while the next one forms. Whoever finds the queue full waits, which is how a slow disk
/// slows down those who write instead of filling the memory.
const WRITES: usize = 2 * GROUP;

/// Changes that share one transaction. More would not be faster, and would keep the first one waiting.
const GROUP: usize = 256;

/// A question takes a millisecond, and there are few who ask.
const READS: usize = 64;

/// What the writing thread is told.
#[derive(Debug)]
enum Order {
    Write(WriteRequest),
    Close,
}

/// What the answering thread is told.
#[derive(Debug)]
enum Question {
    /// Asked then.
    Read(Read, Timestamp),
    Close,
}

/// Where handles put their requests.
#[derive(Debug, Clone)]
pub(super) struct Queues {
    orders: mpsc::Sender<Order>,
    questions: mpsc::Sender<Question>,
    status: Arc<Status>,
}

impl Engine for Queues {
    fn write(&self, request: WriteRequest) -> Accepted<'_, CommitError> {
        Box::pin(async {
            let sent = self.orders.send(Order::Write(request)).await;
            sent.map_err(|_| CommitError::Closed)
        })
    }

    fn read(&self, request: ReadRequest) -> Accepted<'_, ReadError> {
        Box::pin(async {
            let sent = self
                .questions
                .send(Question::Read(request.0, clock::wall()))
                .await;
            sent.map_err(|_| ReadError::Closed)
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

/// Why a store was not closed in order. What was committed is on disk in any case.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The file cannot be brought into good order.
    #[error("the state was not closed in order ({0}); it will be checked at the next start")]
    Failed(String),
    /// A thread of the store panicked.
    #[error("a thread of the state panicked; the state will be checked at the next start")]
    Panicked,
}

impl StoreThreads {
    /// Writes what is queued, closes the file, and notes that it was closed in order. Later requests are answered
    /// `Closed`.
    pub async fn close(self) -> Result<(), CloseError> {
        // The one that writes closes last, because the last one to close tidies up the files.
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

/// Asks the opening thread to stop when nobody waits for it any more.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Opens the state in `dir` and starts its threads. Dropping this stops the opening: the lock is free and the files are
/// closed a moment later.
pub(super) async fn start(
    dir: PathBuf,
    stop: &CancellationToken,
) -> Result<(Queues, StoreThreads), OpenError> {
    let status = Arc::<Status>::default();
    let cancel = Cancel::default();
    let _cancel_on_drop = CancelOnDrop(cancel.clone());
    // Not before the first message does a thread need it, but a failure here is still told as one to start.
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
                // Whoever asked may have gone, and then nobody cares.
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
    // The thread always answers; if it panicked, joining it says so.
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
                // A full queue loses nothing: the next reader finds them again.
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

/// The writing thread's life.
fn write(
    mut writer: Writer,
    lock: DirLock,
    file: &Path,
    runtime: &tokio::runtime::Runtime,
    mut queue: mpsc::Receiver<Order>,
) -> Result<(), CloseError> {
    let mut orders = Vec::with_capacity(GROUP);
    loop {
        // Takes all that is there, and waits only when there is nothing.
        let received =
            runtime.block_on(async { tokio::time::timeout(LOOK, queue.recv_many(&mut orders, GROUP)).await });
        let mut closing = received == Ok(0);
        let mut requests = Vec::with_capacity(orders.len());
        for order in orders.drain(..) {
            match order {
                Order::Write(request) => requests.push(request),
                Order::Close => {
                    closing = true;
                    // What was sent before this is still taken; then the queue says that it is empty for good.
                    queue.close();
                }
            }
        }
        if !requests.is_empty() {
            writer.write(requests);
        }
        writer.look();
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

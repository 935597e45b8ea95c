//! A value that watchers follow: the whole of it now, then the latest after each change.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;

use crate::error::Result;

/// The sending side. Streams do not end when it is gone; they fall silent.
#[derive(Debug)]
pub(crate) struct Latest<T>(watch::Sender<Result<T>>);

impl<T: Clone + Send + Sync + 'static> Latest<T> {
    pub(crate) fn new(value: Result<T>) -> Self {
        Self(watch::channel(value).0)
    }

    /// Watchers hear this next, whatever they heard before.
    pub(crate) fn tell(&self, value: Result<T>) {
        drop(self.0.send_replace(value));
    }

    /// Watchers hear this next, unless it is what they heard last.
    pub(crate) fn tell_news(&self, value: T)
    where
        T: PartialEq,
    {
        self.0.send_if_modified(|told| {
            let news = told.as_ref() != Ok(&value);
            if news {
                *told = Ok(value);
            }
            news
        });
    }

    pub(crate) fn watch(&self) -> BoxStream<'static, Result<T>> {
        let mut receiver = self.0.subscribe();
        receiver.mark_changed();
        stream::unfold(receiver, |mut receiver| async move {
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let value = receiver.borrow_and_update().clone();
            Some((value, receiver))
        })
        .boxed()
    }
}

//! A value that watchers follow: the whole of it now, then the latest after each change.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::error::Result;
use crate::watched::Watched;

/// The sending side. Streams do not end when it is gone; they fall silent.
#[derive(Debug)]
pub(crate) struct Latest<T>(Arc<Watched<Result<T>>>);

impl<T: Clone + Send + Sync + 'static> Latest<T> {
    pub(crate) fn new(value: Result<T>) -> Self {
        Self(Arc::new(Watched::new(value)))
    }

    /// Watchers hear this next, whatever they heard before.
    pub(crate) fn tell(&self, value: Result<T>) {
        self.0.put(value);
    }

    /// Watchers hear this next, unless it is what they heard last.
    pub(crate) fn tell_news(&self, value: T)
    where
        T: PartialEq,
    {
        self.0.change(|told| {
            let news = told.as_ref() != Ok(&value);
            if news {
                *told = Ok(value);
            }
            news
        });
    }

    pub(crate) fn watch(&self) -> BoxStream<'static, Result<T>> {
        stream::unfold((self.0.clone(), None), |(latest, heard)| async move {
            let changes = match heard {
                Some(heard) => latest.changed_since(heard).await,
                None => latest.changes(),
            };
            let value = latest.read(Clone::clone);
            Some((value, (latest, Some(changes))))
        })
        .boxed()
    }
}

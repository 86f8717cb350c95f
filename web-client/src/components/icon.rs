//! The icons, drawn as paths on a 24 × 24 grid so that they take the colour of the text beside them.
//!
//! Must not live here: meaning. Invariant: an icon is hidden from screen readers; its button or neighbour has the words.

use yew::prelude::*;

/// One of the icons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icon {
    /// Back to the rooms, on a phone.
    Back,
    /// A tick: sent, chosen.
    Check,
    /// Waiting to be sent.
    Clock,
    /// Close.
    Close,
    /// Copy.
    Copy,
    /// To the end of the list.
    Down,
    /// Help.
    Help,
    /// More actions.
    More,
    /// An edit or a draft.
    Pencil,
    /// People.
    People,
    /// Something new.
    Plus,
    /// Try again.
    Retry,
    /// Find.
    Search,
    /// Send.
    Send,
    /// Sign out, leave.
    SignOut,
    /// Delete.
    Trash,
    /// Attention.
    Warning,
    /// No network.
    Offline,
}

impl Icon {
    fn path(self) -> &'static str {
        match self {
            Self::Back => "M15 5l-7 7 7 7",
            Self::Check => "M5 12.5l4.6 4.5L19 7.5",
            Self::Clock => "M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17zM12 7.5V12l3 2",
            Self::Close => "M6 6l12 12M18 6L6 18",
            Self::Copy => "M9 9h10.5v11H9zM5 15H4.5V4H15v1",
            Self::Down => "M12 5v13M6 12.5l6 6 6-6",
            Self::Help => {
                "M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17zM9.6 9.4a2.5 2.5 0 1 1 3.6 2.3c-.8.4-1.2.9-1.2 1.8M12 16.6v.1"
            }
            Self::More => "M5 12h.01M12 12h.01M19 12h.01",
            Self::Pencil => "M4.5 19.5l1-4.5L16 4.5l3.5 3.5L9 18.5zM13.5 7l3.5 3.5",
            Self::People => {
                "M9 5a3.3 3.3 0 1 1 0 6.6A3.3 3.3 0 0 1 9 5zM3 19c0-3 2.6-4.8 6-4.8s6 1.8 6 4.8M16 5.4a3.3 3.3 0 0 1 0 5.9M17.5 14.6c2.2.6 3.5 2.2 3.5 4.4"
            }
            Self::Plus => "M12 5v14M5 12h14",
            Self::Retry => "M19 12a7 7 0 1 1-2.2-5.1L19 9M19 4.5V9h-4.5",
            Self::Search => "M10.5 4.5a6 6 0 1 1 0 12 6 6 0 0 1 0-12zM15 15l4.5 4.5",
            Self::Send => "M4.5 12L20 4.5 15.5 20l-4-6.5zM11.5 13.5L20 4.5",
            Self::SignOut => "M10 4.5H5v15h5M14 8l4 4-4 4M18 12H9.5",
            Self::Trash => "M4.5 7h15M9.5 7V4.5h5V7M6.5 7l1 12.5h9l1-12.5M10.3 10.5v5.5M13.7 10.5v5.5",
            Self::Warning => "M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17zM12 7.8v5.4M12 16.3v.1",
            Self::Offline => {
                "M4 4l16 16M8.8 13.2a5.5 5.5 0 0 1 5.4.6M5.6 9.9a10 10 0 0 1 3-1.7M12 7.2c2.5 0 4.7 1 6.4 2.7M12 17.5v.1"
            }
        }
    }

    /// Draws it.
    pub fn draw(self) -> Html {
        self.drawn(classes!("icon"))
    }

    /// Draws it at 14 px.
    pub fn draw_small(self) -> Html {
        self.drawn(classes!("icon", "small"))
    }

    fn drawn(self, mut class: Classes) -> Html {
        if self == Self::More {
            class.push("bold");
        }
        html! { <svg {class} viewBox="0 0 24 24" aria-hidden="true"><path d={self.path()} /></svg> }
    }
}

/// The mark of the program: a line that holds.
pub fn mark() -> Html {
    html! {
        <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
            <rect class="ground" width="32" height="32" rx="8" />
            <path class="line" d="M7 20.5c3.2 0 3.4-9 6.4-9 3.2 0 2.4 9 5.6 9 3 0 2.8-9 6-9" />
        </svg>
    }
}

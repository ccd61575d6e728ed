"""Files to look at: pictures, videos, pages, panoramas."""

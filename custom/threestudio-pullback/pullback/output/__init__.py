"""What is written for people to look at: pictures, videos, pages, panorama files."""

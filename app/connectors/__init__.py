"""What knows how systems on the other side speak, a module a kind of them; of ours it knows the domain alone."""

"""What goes over the wire: the HTTP contract and the Open Inference Protocol."""

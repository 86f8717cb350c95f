// A hub on gorilla/websocket, after the shape its authors recommend: one goroutine that owns the members of a room, one
// that reads and one that writes for each connection, and texts that wait together leave in one frame.
//
// Invariant: nothing is stored or compressed; a member whose queue is full is dropped, and that is told.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// Texts that may wait for one member.
const queue = 256

type member struct {
	socket *websocket.Conn
	texts  chan []byte
}

type room struct {
	come, go_ chan *member
	texts     chan []byte
}

func (r *room) run() {
	members := map[*member]bool{}
	for {
		select {
		case m := <-r.come:
			members[m] = true
		case m := <-r.go_:
			if members[m] {
				delete(members, m)
				close(m.texts)
			}
		case text := <-r.texts:
			for m := range members {
				select {
				case m.texts <- text:
				default:
					log.Println("a member's queue is full, and it is dropped")
					delete(members, m)
					close(m.texts)
				}
			}
		}
	}
}

func (r *room) read(m *member) {
	defer func() { r.go_ <- m; m.socket.Close() }()
	for {
		_, text, err := m.socket.ReadMessage()
		if err != nil {
			return
		}
		r.texts <- text
	}
}

func (m *member) write() {
	defer m.socket.Close()
	for text := range m.texts {
		frame, err := m.socket.NextWriter(websocket.TextMessage)
		if err != nil {
			return
		}
		frame.Write(text)
		for waiting := len(m.texts); waiting > 0; waiting-- {
			frame.Write([]byte{'\n'})
			frame.Write(<-m.texts)
		}
		if frame.Close() != nil {
			return
		}
	}
}

func main() {
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	var lock sync.Mutex
	rooms := map[string]*room{}
	find := func(name string) *room {
		lock.Lock()
		defer lock.Unlock()
		if rooms[name] == nil {
			rooms[name] = &room{make(chan *member), make(chan *member), make(chan []byte)}
			go rooms[name].run()
		}
		return rooms[name]
	}
	http.HandleFunc("/", func(w http.ResponseWriter, request *http.Request) {
		socket, err := upgrader.Upgrade(w, request, nil)
		if err != nil {
			return
		}
		r, m := find(request.URL.Path), &member{socket, make(chan []byte, queue)}
		r.come <- m
		go m.write()
		go r.read(m)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}
